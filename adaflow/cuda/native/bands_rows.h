// A symmetric filter along both axes of a plane, on a CPU.

#pragma once

#include <algorithm>

#include "bands.h"
#include "resolution.h"

namespace adaflow {
namespace bands {

/// Filters a plane, or applies the transpose of that. `out` may be `in`.
template <typename T>
void filter_plane(
    const T* in, T* out, const float* taps, std::int64_t height, std::int64_t width, bool transposed,
    augment::Buffers<T>& buffers) {
    const std::int64_t stride = rows::padded<T>(width);
    T* line = buffers.room(buffers.line, stride + TAPS);
    T* sums = buffers.room(buffers.window, (height + 1) * stride);
    T weights[TAPS];
    std::copy_n(taps, TAPS, weights);
    const T* shifted[TAPS];
    for (int k = 0; k < TAPS; ++k) shifted[k] = line + k;
    for (std::int64_t y = 0; y < height; ++y) {
        T* middle = line + REACH;
        std::copy_n(in + y * width, width, middle);
        if (transposed) {
            for (std::int64_t x = 0; x < width; ++x) middle[x] *= T(border(x, width) * border(y, height));
        }
        for (std::int64_t k = 1; k <= REACH; ++k) {
            middle[-k] = middle[augment::reflect(-k, width)];
            middle[width - 1 + k] = middle[augment::reflect(width - 1 + k, width)];
        }
        rows::weighted_sum<TAPS>(shifted, weights, sums + y * stride, width);
    }
    T* result = sums + height * stride;
    for (std::int64_t y = 0; y < height; ++y) {
        const T* near[TAPS];
        for (int k = 0; k < TAPS; ++k) near[k] = sums + augment::reflect(y + k - REACH, height) * stride;
        rows::weighted_sum<TAPS>(near, weights, result, width);
        if (transposed) {
            for (std::int64_t x = 0; x < width; ++x) result[x] /= T(border(x, width) * border(y, height));
        }
        std::copy_n(result, width, out + y * width);
    }
}

}  // namespace bands
}  // namespace adaflow
