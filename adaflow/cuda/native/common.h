// What every native operation shares. Included by X.h, and so by g++ (X_cpu.cpp) and by nvcc (X_cuda.cu).
//
// All *_cpu.cpp become one library and all *_cuda.cu another: what a file does not export belongs into an unnamed
// namespace, for two functions or structs of the same name in two files would silently be taken for one.
//
// Exported functions are plain C and return 0, or an error code that is not 0:
//
//     extern "C" int adaflow_<op>_<f32|f64|bf16>(pointers, int64_t sizes and strides, parameters, last)
//
// with `int64_t threads` last in the CPU library and `void* stream` last in the CUDA library.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define ADAFLOW_FN __host__ __device__ __forceinline__
#else
#define ADAFLOW_FN __attribute__((always_inline)) inline
#endif

namespace adaflow {

/// The upper half of a float: how torch stores bfloat16. Arithmetic is done in float.
struct bf16 {
    std::uint16_t bits;

    bf16() = default;

    /// Round to nearest, ties to even; NaN stays NaN. Without branches, so that loops over it become SIMD.
    ADAFLOW_FN bf16(float value) {
        std::uint32_t word;
        std::memcpy(&word, &value, sizeof word);
        const std::uint32_t rounded = (word + 0x7fffu + ((word >> 16) & 1u)) >> 16;
        bits = static_cast<std::uint16_t>((word & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
    }

    ADAFLOW_FN operator float() const {
        const std::uint32_t word = static_cast<std::uint32_t>(bits) << 16;
        float value;
        std::memcpy(&value, &word, sizeof value);
        return value;
    }
};

/// The type to compute in: float for float and bf16, double for double.
template <typename T>
struct accumulator {
    using type = T;
};
template <>
struct accumulator<bf16> {
    using type = float;
};

}  // namespace adaflow
