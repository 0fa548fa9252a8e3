// Vectors of 16 channels, and the transforms of Winograd's F(2 × 2, 3 × 3), for CPUs with AVX-512.
//
// Lavin & Gray 2015, arXiv 1509.09308: y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A makes 2 × 2 pixels y from 4 × 4 pixels d and 3 × 3
// weights g with 16 products where 36 are usual. Matrices are arrays, row after row; each element is a vector.

#pragma once

#include "lanes.h"

namespace adaflow::winograd {

/// How many numbers one instruction multiplies and adds in one lane: bf16 come in pairs.
template <class S>
constexpr std::int64_t pair() {
    return sizeof(S) == 2 ? 2 : 1;
}

/// Element i of one vector, or of two as pairs.
inline void put(float* p, const __m512 (&v)[1][16], int i) { store(p, v[0][i]); }

#ifdef __AVX512BF16__

inline void put(bf16* p, const __m512 (&v)[2][16], int i) {
    const __m512i even = widened((__m256i)_mm512_cvtneps_pbh(v[0][i])), odd = widened((__m256i)_mm512_cvtneps_pbh(v[1][i]));
    _mm512_storeu_si512(p, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
}

#endif

/// v = Bᵀ d B
inline void transform_input(const __m512 (&d)[16], __m512 (&v)[16]) {
    __m512 t[16];
    for (int x = 0; x < 4; ++x) {
        t[x] = d[x] - d[8 + x];
        t[4 + x] = d[4 + x] + d[8 + x];
        t[8 + x] = d[8 + x] - d[4 + x];
        t[12 + x] = d[4 + x] - d[12 + x];
    }
    for (int y = 0; y < 16; y += 4) {
        v[y] = t[y] - t[y + 2];
        v[y + 1] = t[y + 1] + t[y + 2];
        v[y + 2] = t[y + 2] - t[y + 1];
        v[y + 3] = t[y + 1] - t[y + 3];
    }
}

/// y = Aᵀ m A
inline void transform_output(const __m512 (&m)[16], __m512 (&y)[4]) {
    __m512 t[8];
    for (int x = 0; x < 4; ++x) {
        t[x] = m[x] + m[4 + x] + m[8 + x];
        t[4 + x] = m[4 + x] - m[8 + x] - m[12 + x];
    }
    for (int r = 0; r < 2; ++r) {
        y[2 * r] = t[4 * r] + t[4 * r + 1] + t[4 * r + 2];
        y[2 * r + 1] = t[4 * r + 1] - t[4 * r + 2] - t[4 * r + 3];
    }
}

/// m = A y Aᵀ
inline void transform_gradient(const __m512 (&y)[4], __m512 (&m)[16]) {
    __m512 t[8];
    for (int x = 0; x < 2; ++x) {
        t[x] = y[x];
        t[2 + x] = y[x] + y[2 + x];
        t[4 + x] = y[x] - y[2 + x];
        t[6 + x] = -y[2 + x];
    }
    for (int r = 0; r < 4; ++r) {
        m[4 * r] = t[2 * r];
        m[4 * r + 1] = t[2 * r] + t[2 * r + 1];
        m[4 * r + 2] = t[2 * r] - t[2 * r + 1];
        m[4 * r + 3] = -t[2 * r + 1];
    }
}

/// u = G g Gᵀ
inline void transform_weights(const __m512 (&g)[9], __m512 (&u)[16]) {
    __m512 t[12];
    for (int x = 0; x < 3; ++x) {
        t[x] = g[x];
        t[3 + x] = (g[x] + g[3 + x] + g[6 + x]) * 0.5f;
        t[6 + x] = (g[x] - g[3 + x] + g[6 + x]) * 0.5f;
        t[9 + x] = g[6 + x];
    }
    for (int y = 0; y < 4; ++y) {
        const __m512* row = t + 3 * y;
        u[4 * y] = row[0];
        u[4 * y + 1] = (row[0] + row[1] + row[2]) * 0.5f;
        u[4 * y + 2] = (row[0] - row[1] + row[2]) * 0.5f;
        u[4 * y + 3] = row[2];
    }
}

/// g = Gᵀ u G
inline void transform_sums(const __m512 (&u)[16], __m512 (&g)[9]) {
    __m512 t[12];
    for (int x = 0; x < 4; ++x) {
        const __m512 half = (u[4 + x] + u[8 + x]) * 0.5f;
        t[x] = u[x] + half;
        t[4 + x] = (u[4 + x] - u[8 + x]) * 0.5f;
        t[8 + x] = half + u[12 + x];
    }
    for (int y = 0; y < 3; ++y) {
        const __m512 *row = t + 4 * y, half = (row[1] + row[2]) * 0.5f;
        g[3 * y] = row[0] + half;
        g[3 * y + 1] = (row[1] - row[2]) * 0.5f;
        g[3 * y + 2] = half + row[3];
    }
}

}  // namespace adaflow::winograd
