// Rows of pixels on a CPU: weighted sums of rows, and pixels put between each other and apart again.
//
// A pixel is L numbers next to each other. Rows of n numbers are read and written in whole vectors: the memory of a row
// has room for n rounded up to a multiple of LANES<T>, and so have the rows that are read, from where they are read.

#pragma once

#include "common.h"

namespace adaflow {
namespace rows {

/// Numbers in a vector of 64 bytes. Compilers divide it where the processor has narrower ones.
template <typename T>
constexpr int LANES = 64 / sizeof(T);

template <typename T>
struct Vector {
    typedef T type __attribute__((vector_size(64), aligned(alignof(T)), may_alias));
};

/// A pixel of L numbers, and two of them side by side.
template <typename T, int L>
struct Pixels {
    typedef T One __attribute__((vector_size(sizeof(T) * L), aligned(alignof(T)), may_alias));
    typedef T Two __attribute__((vector_size(2 * sizeof(T) * L), aligned(alignof(T)), may_alias));
};
template <typename T>
struct Pixels<T, 1> {
    typedef T One;
    typedef T Two __attribute__((vector_size(2 * sizeof(T)), aligned(alignof(T)), may_alias));
};

/// Two pixels side by side, and apart again.
template <typename T, int L>
inline typename Pixels<T, L>::Two join(typename Pixels<T, L>::One first, typename Pixels<T, L>::One second) {
    if constexpr (L == 1) {
        return typename Pixels<T, L>::Two{first, second};
    } else {
        static_assert(L == 4);
        return typename Pixels<T, L>::Two{first[0],  first[1],  first[2],  first[3],
                                          second[0], second[1], second[2], second[3]};
    }
}

template <typename T>
inline std::int64_t padded(std::int64_t n) {
    return (n + LANES<T> - 1) / LANES<T> * LANES<T>;
}

/// Vectors i ... of `weighted_sum`, COUNT of them.
template <int K, int COUNT, typename T>
inline void weighted_vectors(const T* const* in, const T* weights, T* out, std::int64_t i) {
    using V = typename Vector<T>::type;
    V sums[COUNT];
#pragma GCC unroll 4
    for (int v = 0; v < COUNT; ++v) sums[v] = weights[0] * reinterpret_cast<const V*>(in[0] + i)[v];
#pragma GCC unroll 12
    for (int k = 1; k < K; ++k) {
#pragma GCC unroll 4
        for (int v = 0; v < COUNT; ++v) sums[v] += weights[k] * reinterpret_cast<const V*>(in[k] + i)[v];
    }
#pragma GCC unroll 4
    for (int v = 0; v < COUNT; ++v) reinterpret_cast<V*>(out + i)[v] = sums[v];
}

/// out[i] = sum over k of weights[k] * in[k][i], i < n.
template <int K, typename T>
inline void weighted_sum(const T* const* in, const T* weights, T* out, std::int64_t n) {
    // Weights that are too many for the registers are loaded once for four vectors.
    constexpr int COUNT = K > 16 ? 4 : 1;
    std::int64_t i = 0;
    for (; i + COUNT * LANES<T> <= n; i += COUNT * LANES<T>) weighted_vectors<K, COUNT>(in, weights, out, i);
    for (; i < n; i += LANES<T>) weighted_vectors<K, 1>(in, weights, out, i);
}

/// Pixels of two rows in turn: even[0], odd[0], even[1] ...
template <int L, typename T>
inline void interleave(const T* even, const T* odd, T* out, std::int64_t pairs) {
    using P = typename Pixels<T, L>::One;
    const P *e = reinterpret_cast<const P*>(even), *o = reinterpret_cast<const P*>(odd);
    P* to = reinterpret_cast<P*>(out);
    for (std::int64_t i = 0; i < pairs; ++i) {
        to[2 * i] = e[i];
        to[2 * i + 1] = o[i];
    }
}

/// The inverse of `interleave`.
template <int L, typename T>
inline void part(const T* in, T* even, T* odd, std::int64_t pairs) {
    using P = typename Pixels<T, L>::One;
    const P* from = reinterpret_cast<const P*>(in);
    P *e = reinterpret_cast<P*>(even), *o = reinterpret_cast<P*>(odd);
    for (std::int64_t i = 0; i < pairs; ++i) {
        e[i] = from[2 * i];
        o[i] = from[2 * i + 1];
    }
}

/// Planes of an image to pixels: out[i * L + l] = planes[l][i].
template <int L, typename T>
inline void gather_planes(const T* const* planes, T* out, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i)
        for (int l = 0; l < L; ++l) out[i * L + l] = planes[l][i];
}

}  // namespace rows
}  // namespace adaflow
