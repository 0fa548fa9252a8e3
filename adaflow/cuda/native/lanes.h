// Numbers one by one, or 16 at a time where the processor has AVX-512 and, for bf16, rounds to it itself: g++ makes of
// rounding in integers a loop that takes several times as long as memory does. (It takes numbers below 1.2e-38 for 0.)
//
// Code that is written with `get` and `put` does both: an index is an i64, or Lanes for itself and the 15 after it.

#pragma once

#include <type_traits>

#include "common.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace adaflow {

constexpr std::int64_t kLanes = 16;

struct Lanes {
    std::int64_t first;
};

/// Number i, in the type to compute in.
template <class S>
inline typename accumulator<S>::type get(const S* p, std::int64_t i) {
    return p[i];
}
template <class S, class A>
inline void put(S* p, std::int64_t i, A value) {
    p[i] = S(value);
}

#ifdef __AVX512F__

inline __m512 load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, __m512 v) { _mm512_storeu_ps(p, v); }
inline __m512 get(const float* p, Lanes i) { return load(p + i.first); }
inline void put(float* p, Lanes i, __m512 v) { store(p + i.first, v); }
inline float total(__m512 v) { return _mm512_reduce_add_ps(v); }

#endif

#ifdef __AVX512BF16__

inline __m512i widened(__m256i half) { return _mm512_maskz_cvtepu16_epi32(0xffff, half); }
inline __m512 load(const bf16* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
}
inline void store(bf16* p, __m512 v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(v)); }
inline __m512 get(const bf16* p, Lanes i) { return load(p + i.first); }
inline void put(bf16* p, Lanes i, __m512 v) { store(p + i.first, v); }

#endif

/// Whether numbers of a type can be taken 16 at a time here.
template <class S>
constexpr bool has_lanes = false;
#ifdef __AVX512F__
template <>
constexpr bool has_lanes<float> = true;
#endif
#ifdef __AVX512BF16__
template <>
constexpr bool has_lanes<bf16> = true;
#endif

}  // namespace adaflow
