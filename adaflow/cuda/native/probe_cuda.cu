// Proves that the CUDA library was built, loads, and that this GPU and its driver run what is in it.

#include "common.h"

namespace {

__global__ void count(float* out, std::int64_t size) {
    const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
    if (i < size) out[i] = static_cast<float>(i);
}

}  // namespace

// out[i] = i for i < size.
extern "C" int adaflow_probe_f32(float* out, std::int64_t size, void* stream) {
    if (size == 0) return 0;
    count<<<static_cast<unsigned>((size + 255) / 256), 256, 0, static_cast<cudaStream_t>(stream)>>>(out, size);
    return cudaGetLastError();
}

// What an error code means.
extern "C" const char* adaflow_error(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }
