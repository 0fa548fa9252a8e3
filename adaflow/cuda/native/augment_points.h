// Resampling point by point: what a GPU does in parallel, and a CPU where a map shrinks the image beyond all measure.
//
// The lookup at lattice coordinates (u, v) is the sum over pixels (q, r) of w(u - 2q) * w(v - 2r) * image(q, r), where
// w is the up filter, interpolated linearly between its taps, and zero outside of (-6, 7). The adjoint gathers the same
// weights for one pixel of the image from all points of the grid that see it, or one of its mirror images.

#pragma once

#include "augment.h"

namespace adaflow {
namespace augment {

/// Pixels that a point sees along an axis.
constexpr int SEEN = 7;

/// The low-pass with zeros around it, so that any two neighbours can be interpolated.
template <typename T>
struct Taps {
    T around[TAPS + 3];

    ADAFLOW_FN void fill() {
        for (int k = 0; k < TAPS + 3; ++k) around[k] = k < 2 || k >= TAPS + 2 ? T(0) : static_cast<T>(lowpass(k - 2));
    }

    /// w at `whole` + `fraction`, for whole + MIDDLE from -2 to TAPS - 1.
    ADAFLOW_FN T weight(int whole, T fraction) const {
        const T* at = around + whole + MIDDLE + 2;
        return 2 * (at[0] + fraction * (at[1] - at[0]));
    }

    /// w anywhere.
    ADAFLOW_FN T weight(double distance) const {
        const double whole = floor(distance);
        if (!(whole >= -MIDDLE - 1 && whole < TAPS - MIDDLE)) return T(0);
        return weight(static_cast<int>(whole), static_cast<T>(distance - whole));
    }

    ADAFLOW_FN T operator[](std::int64_t k) const { return around[k + 2]; }
};

/// The pixels that a point of the lattice sees along an axis of `size` pixels, and their weights.
template <typename T>
struct Seen {
    std::int64_t index[SEEN];
    T weight[SEEN];

    ADAFLOW_FN Seen(double position, std::int64_t size, const Taps<T>& taps) {
        const double whole = floor(position);
        const std::int64_t base = static_cast<std::int64_t>(whole);
        const std::int64_t first = static_cast<std::int64_t>(floor(0.5 * (whole - MIDDLE)));
        for (int k = 0; k < SEEN; ++k) {
            index[k] = reflect(first + k, size);
            weight[k] = taps.weight(static_cast<int>(base - 2 * (first + k)), static_cast<T>(position - whole));
        }
    }
};

template <typename T>
ADAFLOW_FN T look_up_point(const T* plane, std::int64_t width, const Seen<T>& across, const Seen<T>& down) {
    T sum = 0;
    for (int y = 0; y < SEEN; ++y) {
        const T* row = plane + down.index[y] * width;
        T line = 0;
        for (int x = 0; x < SEEN; ++x) line += across.weight[x] * row[across.index[x]];
        sum += down.weight[y] * line;
    }
    return sum;
}

/// The gradient at point (i, j) of the grid from that of the output, of which this is one plane.
template <typename T>
ADAFLOW_FN T grid_gradient(
    const T* plane, std::int64_t height, std::int64_t width, std::int64_t i, std::int64_t j, const Taps<T>& taps) {
    T sum = 0;
    for (std::int64_t y = j / 2 - MIDDLE; y <= j / 2; ++y) {
        if (y < 0 || y >= height) continue;
        T line = 0;
        for (std::int64_t x = i / 2 - MIDDLE; x <= i / 2; ++x)
            if (x >= 0 && x < width) line += taps[i - 2 * x] * plane[y * width + x];
        sum += taps[j - 2 * y] * line;
    }
    return sum;
}

/// An interval of whole numbers, ends included.
struct Range {
    std::int64_t first, last;

    /// Keep the k with low <= slope * k <= high, and perhaps one more on each side.
    ADAFLOW_FN void restrict(double slope, double low, double high) {
        if (slope == 0) {
            if (low > 0 || high < 0) last = first - 1;
            return;
        }
        const double one = low / slope, other = high / slope;
        const double least = floor(slope > 0 ? one : other), greatest = ceil(slope > 0 ? other : one);
        if (least > static_cast<double>(last) || greatest < static_cast<double>(first)) {
            last = first - 1;
            return;
        }
        if (least > static_cast<double>(first)) first = static_cast<std::int64_t>(least);
        if (greatest < static_cast<double>(last)) last = static_cast<std::int64_t>(greatest);
    }
};

/// The places where a pixel of an axis of `size` pixels and its mirror images lie, between `low` and `high`.
struct Mirrored {
    std::int64_t pixel, period, turn, last_turn;
    int side;

    ADAFLOW_FN Mirrored(std::int64_t pixel, std::int64_t size, double low, double high)
        : pixel(pixel), period(size > 1 ? 2 * (size - 1) : 1), side(0) {
        turn = static_cast<std::int64_t>(floor(low / static_cast<double>(period))) - 1;
        last_turn = static_cast<std::int64_t>(ceil(high / static_cast<double>(period))) + 1;
    }

    /// Whether there is another; it is put into `place`.
    ADAFLOW_FN bool next(std::int64_t& place) {
        // The outermost pixels are their own mirror images.
        const int sides = pixel == 0 || 2 * pixel == period ? 1 : 2;
        if (side == sides) {
            side = 0;
            ++turn;
        }
        if (turn > last_turn) return false;
        place = turn * period + (side == 0 ? pixel : -pixel);
        ++side;
        return true;
    }
};

/// The least and the greatest lattice coordinate of an output of this size, along both axes.
struct Extent {
    double u_low, u_high, v_low, v_high;

    ADAFLOW_FN Extent(const Map& map, std::int64_t height, std::int64_t width) {
        const double right = static_cast<double>(2 * width + GRID_MARGIN - 1);
        const double bottom = static_cast<double>(2 * height + GRID_MARGIN - 1);
        u_low = map.u(0, 0) + fmin(map.a * right, 0.0) + fmin(map.b * bottom, 0.0);
        u_high = map.u(0, 0) + fmax(map.a * right, 0.0) + fmax(map.b * bottom, 0.0);
        v_low = map.v(0, 0) + fmin(map.d * right, 0.0) + fmin(map.e * bottom, 0.0);
        v_high = map.v(0, 0) + fmax(map.d * right, 0.0) + fmax(map.e * bottom, 0.0);
    }
};

/// The gradient at pixel (x, y) of a resampled image: add to sums[l] what it gets from plane l of the grid.
template <typename T>
ADAFLOW_FN void gather_resampled(
    const T* grid, int planes, std::int64_t height, std::int64_t width, std::int64_t x, std::int64_t y, const Map& map,
    const Taps<T>& taps, T* sums) {
    constexpr double BEFORE = MIDDLE + 1, AFTER = TAPS - MIDDLE;
    const std::int64_t grid_width = 2 * width + GRID_MARGIN, grid_height = 2 * height + GRID_MARGIN;
    const Extent extent(map, height, width);
    const double det = map.a * map.e - map.b * map.d;
    std::int64_t q, r;
    Mirrored columns(x, width, 0.5 * (extent.u_low - AFTER), 0.5 * (extent.u_high + BEFORE));
    while (columns.next(q)) {
        Mirrored lines(y, height, 0.5 * (extent.v_low - AFTER), 0.5 * (extent.v_high + BEFORE));
        while (lines.next(r)) {
            // The window of the lattice in which points see this pixel, from the map of point (0, 0) of the grid.
            const double left = 2.0 * static_cast<double>(q) - BEFORE - map.u(0, 0), right = left + BEFORE + AFTER;
            const double top = 2.0 * static_cast<double>(r) - BEFORE - map.v(0, 0), bottom = top + BEFORE + AFTER;
            Range js{0, grid_height - 1};
            js.restrict(det, fmin(map.a * top, map.a * bottom) - fmax(map.d * left, map.d * right),
                        fmax(map.a * top, map.a * bottom) - fmin(map.d * left, map.d * right));
            for (std::int64_t j = js.first; j <= js.last; ++j) {
                const double down = static_cast<double>(j);
                Range is{0, grid_width - 1};
                is.restrict(map.a, left - map.b * down, right - map.b * down);
                is.restrict(map.d, top - map.e * down, bottom - map.e * down);
                for (std::int64_t i = is.first; i <= is.last; ++i) {
                    const double across = static_cast<double>(i);
                    const T weight = taps.weight(map.u(across, down) - 2.0 * static_cast<double>(q)) *
                                     taps.weight(map.v(across, down) - 2.0 * static_cast<double>(r));
                    for (int l = 0; l < planes; ++l)
                        sums[l] += weight * grid[(l * grid_height + j) * grid_width + i];
                }
            }
        }
    }
}

/// The gradient at pixel (x, y) of an image of which whole pixels were moved: add to sums[l] that of plane l of the
/// output, at all pixels that were copied from this one.
template <typename T>
ADAFLOW_FN void gather_moved(
    const T* output, int planes, std::int64_t height, std::int64_t width, std::int64_t x, std::int64_t y,
    const Map& map, T* sums) {
    const Extent extent(map, height, width);
    const double det = map.a * map.e - map.b * map.d;
    std::int64_t q, r;
    Mirrored columns(x, width, 0.5 * extent.u_low, 0.5 * extent.u_high);
    while (columns.next(q)) {
        Mirrored lines(y, height, 0.5 * extent.v_low, 0.5 * extent.v_high);
        while (lines.next(r)) {
            const double across = static_cast<double>(q) - map.c, down = static_cast<double>(r) - map.f;
            const double column = rint((map.e * across - map.b * down) / det);
            const double row = rint((map.a * down - map.d * across) / det);
            const bool inside = column >= 0 && column < static_cast<double>(width) && row >= 0 &&
                                row < static_cast<double>(height);
            if (!inside || map.a * column + map.b * row != across || map.d * column + map.e * row != down) continue;
            const std::int64_t place = static_cast<std::int64_t>(row) * width + static_cast<std::int64_t>(column);
            for (int l = 0; l < planes; ++l) sums[l] += output[l * height * width + place];
        }
    }
}

}  // namespace augment
}  // namespace adaflow
