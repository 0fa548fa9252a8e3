// The maps of a batch, composed on a GPU: a thread for each image.

#include "compose.h"

namespace {

__global__ void compose_all(adaflow::augment::Drawn drawn, float* inverses, float* colors, std::uint8_t* kinds) {
    const std::int64_t number = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
    if (number < drawn.n) adaflow::augment::compose(drawn, number, inverses, colors, kinds);
}

}  // namespace

// Arguments: see compose_cpu.cpp.
extern "C" int adaflow_compose_f32(
    float* inverses, float* colors, std::uint8_t* kinds, const float* planar_drawn, const float* colors_drawn,
    const std::uint8_t* gates, std::int64_t planar_count, std::int64_t color_count, std::int64_t n, std::int64_t height,
    std::int64_t width, std::int64_t resampling, std::int64_t skipped, void* stream) {
    if (n == 0) return 0;
    const adaflow::augment::Drawn drawn{
        planar_drawn, colors_drawn, gates, planar_count, color_count, n, height, width, resampling, skipped,
    };
    const auto blocks = static_cast<unsigned>((n + 63) / 64);
    compose_all<<<blocks, 64, 0, static_cast<cudaStream_t>(stream)>>>(drawn, inverses, colors, kinds);
    return cudaGetLastError();
}
