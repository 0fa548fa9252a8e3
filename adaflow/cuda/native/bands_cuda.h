// A symmetric filter of its own for each image of a batch, and what comes last, on a GPU: a block filters a tile of one
// plane, and adds noise and cuts out where it stores it.

#pragma once

#include "augment_finish.h"
#include "bands.h"

namespace adaflow {
namespace bands {

constexpr int THREADS = 256;

/// Pixels along the side of a tile: what fits, with all that it sees, into 48 KB of shared memory.
template <typename T>
constexpr int TILE = sizeof(T) == 4 ? 32 : 16;

/// out = images filtered and finished, or the adjoint of that: the gradients of pixels that were cut out are zero.
template <typename T>
__global__ void __launch_bounds__(THREADS) filter_tiles(const T* images, T* out, augment::Plan plan) {
    constexpr int WIDE = TILE<T> + 2 * REACH;
    __shared__ T seen[WIDE][WIDE + 1], lines[WIDE][TILE<T> + 1], weights[TAPS];
    const std::int64_t number = blockIdx.z / plan.channels, height = plan.height, width = plan.width;
    const std::int64_t x = blockIdx.x * static_cast<std::int64_t>(TILE<T>);
    const std::int64_t y = blockIdx.y * static_cast<std::int64_t>(TILE<T>);
    const std::int64_t first = blockIdx.z % plan.channels * plan.plane();
    const T* in = images + number * plan.size() + first;
    const bool transposed = plan.transposed, filtered = (plan.kinds[number] & augment::FILTERED) != 0;
    if (filtered) {
        for (int k = threadIdx.x; k < TAPS; k += THREADS) weights[k] = static_cast<T>(plan.taps[number * TAPS + k]);
        for (int k = threadIdx.x; k < WIDE * WIDE; k += THREADS) {
            const std::int64_t column = augment::reflect(x + k % WIDE - REACH, width);
            const std::int64_t row = augment::reflect(y + k / WIDE - REACH, height);
            T value = in[row * width + column];
            if (transposed)
                value = augment::finished(plan, number, std::int64_t{0}, row, column, value) *
                        T(border(column, width) * border(row, height));
            seen[k / WIDE][k % WIDE] = value;
        }
        __syncthreads();
        for (int k = threadIdx.x; k < WIDE * TILE<T>; k += THREADS) {
            T sum = 0;
            for (int tap = 0; tap < TAPS; ++tap) sum += weights[tap] * seen[k / TILE<T>][k % TILE<T> + tap];
            lines[k / TILE<T>][k % TILE<T>] = sum;
        }
        __syncthreads();
    }
    for (int k = threadIdx.x; k < TILE<T> * TILE<T>; k += THREADS) {
        const std::int64_t column = x + k % TILE<T>, row = y + k / TILE<T>;
        if (column >= width || row >= height) continue;
        const std::int64_t place = row * width + column;
        T value = filtered ? T(0) : in[place];
        for (int tap = 0; filtered && tap < TAPS; ++tap) value += weights[tap] * lines[k / TILE<T> + tap][k % TILE<T>];
        // The adjoint of a filter comes after that of the cutout.
        if (filtered && transposed) {
            value /= T(border(column, width) * border(row, height));
        } else {
            value = augment::finished(plan, number, first + place, row, column, value);
        }
        out[number * plan.size() + first + place] = value;
    }
}

}  // namespace bands
}  // namespace adaflow
