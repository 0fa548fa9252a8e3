// The augmentation of an image under an affine map of the plane and one of the colours, and a plan for a batch: what CPU
// and GPU share. Filter, noise and cutout, which follow, are in augment_finish.h.
//
// An image is reflected at its borders without end, doubled in resolution with the sym6 low-pass, looked up bilinearly
// at the points of a doubled output grid, halved with the same low-pass; then its colours are mapped (arXiv 2006.06676,
// App. B). Coordinates: pixels (q, r) of the image count from 0; the lattice of half pixels (u, v) = (2q, 2r); the grid
// of lookups (i, j), whose point (5, 5) belongs to output pixel (0, 0) and of which each pixel reads 12 x 12 points.

#pragma once

#include "common.h"

namespace adaflow {
namespace augment {

constexpr int TAPS = 12;
/// The greatest tap counts as the middle of the filter.
constexpr int MIDDLE = 5;
/// Points of the grid beyond twice the number of pixels.
constexpr int GRID_MARGIN = TAPS - 2;
/// A map within this distance of whole pixels is one.
constexpr double WHOLE_PIXEL = 1e-3;

/// What happens to an image, as bits: moved by whole pixels, or resampled; its colours mapped; its bands filtered; noise
/// added; a rectangle cut out.
constexpr std::uint8_t MOVED = 1, RESAMPLED = 2, COLORED = 4, FILTERED = 8, NOISY = 16, CUT = 32;
/// Taps of the filter of an image.
constexpr int BAND_TAPS = 43;

/// What happens to a batch of n images [n, channels, height, width]. Of arrays of what happens to none, nothing is read.
struct Plan {
    const float* inverses;      // [n, 3, 3], from output to input, in pixels from the centre
    const float* colors;        // [n, 3, 4], of colours as (r, g, b, 1)
    const std::uint8_t* kinds;  // [n], bits as above
    const float* taps;          // [n, 43], of the bands' filters
    const float* strengths;     // [n], standard deviations of the noise
    const std::int64_t* images; // [n], their numbers in the run, which name their noise
    const float* centres;       // [n, 2], x and y of what is cut out, as shares of the size
    std::uint64_t noise_key;
    float cutout;  // size of what is cut out, as a share
    std::int64_t n, channels, height, width;
    bool transposed, derivative;

    ADAFLOW_FN std::int64_t plane() const { return height * width; }
    ADAFLOW_FN std::int64_t size() const { return channels * plane(); }
};

/// Tap k of the low-pass of sym6, normalised to sum 1 (Daubechies, "Ten Lectures on Wavelets", 1992).
ADAFLOW_FN double lowpass(int k) {
    constexpr double taps[TAPS] = {
        0.010892350163280001,  0.0024683061859200003, -0.08343160770584002,  -0.03416156079324,
        0.34722898647835004,   0.55694639196396,      0.23895218566605003,   -0.05136248493090002,
        -0.014891875649220001, 0.031625281329940004,  0.0012499610463900003, -0.005515933754690001,
    };
    return taps[k];
}

/// A pixel index of any size, folded into 0 ... size - 1 by reflection at the centres of the outermost pixels.
ADAFLOW_FN std::int64_t reflect(std::int64_t index, std::int64_t size) {
    if (index >= 0 && index < size) return index;
    const std::int64_t period = size > 1 ? 2 * (size - 1) : 1;
    index %= period;
    if (index < 0) index += period;
    return index < size ? index : period - index;
}

/// From pixels (x, y) of the output to pixels (a x + b y + c, d x + e y + f) of the image, counted from 0.
struct Map {
    double a, b, c, d, e, f;

    /// A position that is not finite, or too far away to count in, becomes the origin.
    static ADAFLOW_FN double tame(double value) { return fabs(value) < 1e9 ? value : 0.0; }

    /// `inverse` is 3 x 3, in pixels from the centre of the image.
    ADAFLOW_FN Map(const float* inverse, std::int64_t height, std::int64_t width) {
        const double x = 0.5 * static_cast<double>(width - 1), y = 0.5 * static_cast<double>(height - 1);
        a = tame(inverse[0]), b = tame(inverse[1]), c = tame(inverse[2] + x - (a * x + b * y));
        d = tame(inverse[3]), e = tame(inverse[4]), f = tame(inverse[5] + y - (d * x + e * y));
    }

    /// The lattice coordinates of a point of the grid.
    ADAFLOW_FN double u(double i, double j) const { return a * (i - MIDDLE) + b * (j - MIDDLE) + 2 * c; }
    ADAFLOW_FN double v(double i, double j) const { return d * (i - MIDDLE) + e * (j - MIDDLE) + 2 * f; }

    ADAFLOW_FN bool whole() const {
        const double values[6] = {a, b, c, d, e, f};
        for (const double value : values)
            if (!(fabs(value - rint(value)) < WHOLE_PIXEL)) return false;
        return true;
    }

    /// The same map with whole numbers.
    ADAFLOW_FN Map rounded() const {
        Map map = *this;
        map.a = rint(a), map.b = rint(b), map.c = rint(c), map.d = rint(d), map.e = rint(e), map.f = rint(f);
        return map;
    }
};

/// The map of the colours of an image: three colours, or any number of channels that are all mapped as a grey is.
template <typename T>
struct Colors {
    T m[3][3], offset[3];
    bool rgb, on;

    /// `matrix` is 3 x 4. Transposed and without the offset for derivatives.
    ADAFLOW_FN Colors(const float* matrix, std::int64_t channels, std::uint8_t kind, bool transposed, bool derivative) {
        rgb = channels == 3 || channels == 4;
        on = (kind & COLORED) != 0;
        for (int row = 0; row < 3; ++row) {
            for (int column = 0; column < 3; ++column)
                m[row][column] = static_cast<T>(transposed ? matrix[4 * column + row] : matrix[4 * row + column]);
            offset[row] = derivative ? T(0) : static_cast<T>(matrix[4 * row + 3]);
        }
        if (rgb) return;
        // A grey goes where the average of its three colours goes.
        T gain = 0, sum = 0;
        for (int row = 0; row < 3; ++row) {
            sum += offset[row];
            for (int column = 0; column < 3; ++column) gain += m[row][column];
        }
        for (int row = 0; row < 3; ++row) {
            offset[row] = sum / 3;
            for (int column = 0; column < 3; ++column) m[row][column] = row == column ? gain / 3 : T(0);
        }
    }

    /// Whether this channel is changed at all: a fourth one beside three colours is not.
    ADAFLOW_FN bool changes(std::int64_t channel) const { return on && !(rgb && channel == 3); }
    ADAFLOW_FN T gain() const { return m[0][0]; }
};

}  // namespace augment
}  // namespace adaflow
