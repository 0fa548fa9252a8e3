// Counter-based random numbers, Philox4x32-10 (Salmon et al. 2011): what CPU and GPU share. See adaflow/core/random.py.

#pragma once

#include "common.h"

namespace adaflow {
namespace random {

constexpr int ROUNDS = 10;
/// Words of a block.
constexpr int WORDS = 4;

struct Block {
    std::uint32_t word[WORDS];
};

ADAFLOW_FN Block philox(Block counter, std::uint32_t key, std::uint32_t other_key) {
    for (int round = 0; round < ROUNDS; ++round) {
        const std::uint64_t first = std::uint64_t{0xD2511F53u} * counter.word[0];
        const std::uint64_t second = std::uint64_t{0xCD9E8D57u} * counter.word[2];
        counter = Block{{
            static_cast<std::uint32_t>(second >> 32) ^ counter.word[1] ^ key,
            static_cast<std::uint32_t>(second),
            static_cast<std::uint32_t>(first >> 32) ^ counter.word[3] ^ other_key,
            static_cast<std::uint32_t>(first),
        }};
        key += 0x9E3779B9u;
        other_key += 0xBB67AE85u;
    }
    return counter;
}

/// Block number `block` of an image in a call.
ADAFLOW_FN Block block_of(std::uint64_t key, std::uint64_t image, std::uint32_t call, std::uint32_t block) {
    const Block counter{{block, call, static_cast<std::uint32_t>(image), static_cast<std::uint32_t>(image >> 32)}};
    return philox(counter, static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32));
}

/// 23 bits and a half: exact in float, never 0 and never 1.
ADAFLOW_FN float uniform(std::uint32_t word) {
    return (static_cast<float>(static_cast<std::int32_t>(word >> 9)) + 0.5f) * (1.0f / 8388608.0f);
}

/// The natural logarithm of a normal float, without branches, so that loops over it become SIMD.
ADAFLOW_FN float logarithm(float value) {
    // value = mantissa * 2^exponent, the mantissa between sqrt(1/2) and sqrt(2).
    std::int32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const std::int32_t exponent = (bits - 0x3F3504F3) >> 23;
    bits -= exponent * (1 << 23);
    float mantissa;
    std::memcpy(&mantissa, &bits, sizeof mantissa);
    const float s = (mantissa - 1.0f) / (mantissa + 1.0f), q = s * s;
    const float series = 1.0f + q * (1.0f / 3 + q * (1.0f / 5 + q * (1.0f / 7 + q * (1.0f / 9))));
    return static_cast<float>(exponent) * 0.69314718f + 2.0f * s * series;
}

/// The inverse error function, for -1 < x < 1, to 3e-7 of its value: x times a function of w = -log(1 - x * x), for
/// which two polynomials were fitted, in w where it is small and in its root beyond (the form is Giles's, "Approximating
/// the erfinv function", 2010).
ADAFLOW_FN float erfinv(float x) {
    constexpr int TERMS = 9;
    constexpr float CENTRAL[TERMS] = {
        1.501409422e+00f, 2.466407261e-01f, -4.177707757e-03f, -1.253707504e-03f, 2.186022048e-04f,
        -4.396784829e-06f, -3.528862503e-06f, 3.437273883e-07f, 2.853503615e-08f,
    };
    constexpr float OUTER[TERMS] = {
        2.832976725e+00f, 1.001673032e+00f, 9.448542785e-03f, -7.605501372e-03f, 5.664803241e-03f,
        -3.736445229e-03f, 1.534355380e-03f, 1.651053372e-04f, -3.445164737e-04f,
    };
    const float w = -logarithm((1.0f - x) * (1.0f + x));
    const float near = w - 2.5f, far = sqrtf(w) - 3.0f;
    float central = CENTRAL[TERMS - 1], outer = OUTER[TERMS - 1];
    for (int k = TERMS - 2; k >= 0; --k) {
        central = CENTRAL[k] + near * central;
        outer = OUTER[k] + far * outer;
    }
    return x * (w < 5.0f ? central : outer);
}

/// The quantile function of the normal distribution, for 0 < unit < 1.
ADAFLOW_FN float normal(float unit) { return 1.41421356f * erfinv(2.0f * unit - 1.0f); }

/// Cosine and sine of so many turns, 0 < turns < 1, to 1e-7: power series within an eighth of a turn.
ADAFLOW_FN void cosine_and_sine(float turns, float& cosine, float& sine) {
    const float quarters = 4.0f * turns;
    const std::int32_t nearest = static_cast<std::int32_t>(quarters + 0.5f);
    const float x = (quarters - static_cast<float>(nearest)) * 1.57079633f, q = x * x;
    const float even = 1.0f + q * (-1.0f / 2 + q * (1.0f / 24 + q * (-1.0f / 720 + q * (1.0f / 40320))));
    const float odd = x + x * q * (-1.0f / 6 + q * (1.0f / 120 + q * (-1.0f / 5040 + q * (1.0f / 362880))));
    const bool swapped = nearest & 1;
    cosine = ((nearest + 1) & 2 ? -1.0f : 1.0f) * (swapped ? odd : even);
    sine = (nearest & 2 ? -1.0f : 1.0f) * (swapped ? even : odd);
}

struct Uniform {
    ADAFLOW_FN static void numbers(const Block& words, float (&out)[WORDS]) {
        for (int k = 0; k < WORDS; ++k) out[k] = uniform(words.word[k]);
    }
};

/// Of mean 0 and variance 1 (Box & Muller 1958).
struct Normal {
    ADAFLOW_FN static void numbers(const Block& words, float (&out)[WORDS]) {
        for (int k = 0; k < WORDS; k += 2) {
            const float radius = sqrtf(-2.0f * logarithm(uniform(words.word[k])));
            float cosine, sine;
            cosine_and_sine(uniform(words.word[k + 1]), cosine, sine);
            out[k] = radius * cosine;
            out[k + 1] = radius * sine;
        }
    }
};

#ifndef __CUDACC__
/// Numbers of an image from block `first` of a call on. Whole vectors are made even where fewer are wanted: what a number
/// is must not depend on how many others there are, and rounding could in a loop for the rest.
template <class Kind>
inline void fill(
    float* out, std::uint64_t key, std::uint64_t image, std::uint32_t call, std::uint32_t first, std::int64_t count) {
    constexpr int TOGETHER = 16;
    float some[TOGETHER * WORDS];
    for (std::int64_t done = 0; done < count; done += TOGETHER * WORDS, first += TOGETHER) {
        const std::int64_t wanted = count - done < TOGETHER * WORDS ? count - done : TOGETHER * WORDS;
#pragma omp simd
        for (int block = 0; block < TOGETHER; ++block) {
            float numbers[WORDS];
            Kind::numbers(block_of(key, image, call, first + static_cast<std::uint32_t>(block)), numbers);
            for (int k = 0; k < WORDS; ++k) some[WORDS * block + k] = numbers[k];
        }
        std::memcpy(out + done, some, wanted * sizeof(float));
    }
}
#endif

}  // namespace random
}  // namespace adaflow
