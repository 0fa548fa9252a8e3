// Doubling and halving the resolution of rows of pixels on a CPU.

#pragma once

#include <vector>

#include "augment_view.h"
#include "rows.h"

namespace adaflow {
namespace augment {

/// Memory that a thread keeps.
template <typename T>
struct Buffers {
    std::vector<T> row, even, odd, window, box, line, zeros, pixels, image;
    std::vector<std::int32_t> offset;
    std::vector<T> x, y;
    std::vector<std::int64_t> columns;
    std::vector<Span> spans;

    /// Room for so many numbers and two vectors more, from where a vector of 64 bytes begins.
    static T* room(std::vector<T>& buffer, std::int64_t size) {
        const auto wanted = static_cast<std::size_t>(size + 3 * rows::LANES<T>);
        if (buffer.size() < wanted) buffer.resize(wanted);
        return reinterpret_cast<T*>((reinterpret_cast<std::uintptr_t>(buffer.data()) + 63) & ~std::uintptr_t{63});
    }
};

/// Weights that double the resolution: of the pixels from m on for the even point, from m + shift on for the odd one.
template <typename T>
struct Doubling {
    T even[TAPS / 2], odd[TAPS / 2];
    int shift;

    /// To the lattice from pixels, of which the window begins 3 before the first point's.
    static Doubling up() {
        Doubling weights;
        for (int k = 0; k < TAPS / 2; ++k) {
            weights.even[k] = static_cast<T>(2 * lowpass(TAPS - 1 - 2 * k));
            weights.odd[k] = static_cast<T>(2 * lowpass(TAPS - 2 - 2 * k));
        }
        weights.shift = 1;
        return weights;
    }

    /// To the grid from gradients of the output, of which the window begins 5 before the first point's.
    static Doubling of_gradients() {
        Doubling weights;
        for (int k = 0; k < TAPS / 2; ++k) {
            weights.even[k] = static_cast<T>(lowpass(TAPS - 2 - 2 * k));
            weights.odd[k] = static_cast<T>(lowpass(TAPS - 1 - 2 * k));
        }
        weights.shift = 0;
        return weights;
    }
};

/// A row of pixels at twice the resolution.
template <int L, typename T>
inline void double_row(const T* row, const Doubling<T>& weights, T* out, std::int64_t pairs, Buffers<T>& buffers) {
    T* even = buffers.room(buffers.even, pairs * L);
    T* odd = buffers.room(buffers.odd, pairs * L);
    const T *evens[TAPS / 2], *odds[TAPS / 2];
    for (int k = 0; k < TAPS / 2; ++k) {
        evens[k] = row + k * L;
        odds[k] = row + (k + weights.shift) * L;
    }
    rows::weighted_sum<TAPS / 2>(evens, weights.even, even, pairs * L);
    rows::weighted_sum<TAPS / 2>(odds, weights.odd, odd, pairs * L);
    rows::interleave<L>(even, odd, out, pairs);
}

/// Row `row` of n numbers between the rows of a window, `stride` apart: at twice the resolution.
template <typename T>
inline void between_rows(
    const T* window, std::int64_t stride, const Doubling<T>& weights, std::int64_t row, T* out, std::int64_t n) {
    const bool odd = row & 1;
    const T* first = window + (row / 2 + (odd ? weights.shift : 0)) * stride;
    const T* in[TAPS / 2];
    for (int k = 0; k < TAPS / 2; ++k) in[k] = first + k * stride;
    rows::weighted_sum<TAPS / 2>(in, odd ? weights.odd : weights.even, out, n);
}

/// A row of pixels at half the resolution: out[p] = sum over k of weights[k] * row[2p + k].
template <int L, typename T>
inline void halve_row(const T* row, const T* weights, T* out, std::int64_t count, Buffers<T>& buffers) {
    const std::int64_t pairs = count + TAPS / 2 - 1;
    T* even = buffers.room(buffers.even, pairs * L);
    T* odd = buffers.room(buffers.odd, pairs * L);
    rows::part<L>(row, even, odd, pairs);
    const T* in[TAPS];
    for (int k = 0; k < TAPS; ++k) in[k] = (k % 2 ? odd : even) + k / 2 * L;
    rows::weighted_sum<TAPS>(in, weights, out, count * L);
}

}  // namespace augment
}  // namespace adaflow
