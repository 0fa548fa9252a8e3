// The maps that were drawn for an image, composed to one of the plane and one of the colours: what CPU and GPU share.

#pragma once

#include "augment.h"

namespace adaflow {
namespace augment {

/// What was drawn for a batch of `n` images. The gates of the transforms of the plane come before those of the colours.
struct Drawn {
    const float* planar;        // [planar_count, n, 3, 3], where points go, in pixels from the centre
    const float* colors;        // [color_count, n, 4, 4]
    const std::uint8_t* gates;  // [planar_count + color_count, n]
    std::int64_t planar_count, color_count, n, height, width;
    std::int64_t resampling;  // bit k: transform k of the plane always needs resampling
    std::int64_t skipped;     // bit k: transform k of the colours means nothing for these channels
};

/// product = matrix * product, both S x S.
template <int S>
ADAFLOW_FN void multiply(const float* matrix, double* product) {
    double result[S * S];
    for (int row = 0; row < S; ++row)
        for (int column = 0; column < S; ++column) {
            double sum = 0;
            for (int k = 0; k < S; ++k) sum += static_cast<double>(matrix[S * row + k]) * product[S * k + column];
            result[S * row + column] = sum;
        }
    for (int k = 0; k < S * S; ++k) product[k] = result[k];
}

/// The product of those of `count` matrices whose gate is open, the first one acting first. Returns bits: which.
template <int S>
ADAFLOW_FN std::int64_t product_of(
    const float* matrices, const std::uint8_t* gates, std::int64_t skipped, std::int64_t count, std::int64_t n,
    std::int64_t number, double* product) {
    for (int k = 0; k < S * S; ++k) product[k] = k % (S + 1) == 0 ? 1.0 : 0.0;
    std::int64_t fired = 0;
    for (std::int64_t k = 0; k < count; ++k) {
        if (!gates[k * n + number] || (skipped >> k & 1)) continue;
        multiply<S>(matrices + (k * n + number) * S * S, product);
        fired |= std::int64_t{1} << k;
    }
    return fired;
}

/// For image `number`: the map from output to input [3, 3], that of the colours [3, 4], and what has to be done.
ADAFLOW_FN void compose(
    const Drawn& drawn, std::int64_t number, float* inverse, float* colors, std::uint8_t* kinds) {
    double plane[9], mixed[16];
    const std::int64_t moved =
        product_of<3>(drawn.planar, drawn.gates, 0, drawn.planar_count, drawn.n, number, plane);
    const std::int64_t colored = product_of<4>(
        drawn.colors, drawn.gates + drawn.planar_count * drawn.n, drawn.skipped, drawn.color_count, drawn.n, number,
        mixed);

    const double scale = 1.0 / (plane[0] * plane[4] - plane[1] * plane[3]);
    const double a = plane[4] * scale, b = -plane[1] * scale, c = -plane[3] * scale, d = plane[0] * scale;
    const double values[9] = {
        a, b, -(a * plane[2] + b * plane[5]), c, d, -(c * plane[2] + d * plane[5]), 0, 0, 1,
    };
    for (int k = 0; k < 9; ++k) inverse[9 * number + k] = static_cast<float>(values[k]);
    for (int k = 0; k < 12; ++k) colors[12 * number + k] = static_cast<float>(mixed[k]);

    std::uint8_t kind = colored ? COLORED : 0;
    if (moved) {
        const bool whole = Map(inverse + 9 * number, drawn.height, drawn.width).whole();
        kind |= (moved & drawn.resampling) || !whole ? RESAMPLED : MOVED;
    }
    kinds[number] = kind;
}

}  // namespace augment
}  // namespace adaflow
