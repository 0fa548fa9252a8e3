// The plan of a batch, on a GPU: a thread for each image.

#include "compose.h"

namespace {

using namespace adaflow::augment;

constexpr unsigned THREADS = 64;

__global__ void compose_all(Given given, float* inverses, float* colors, std::uint8_t* kinds) {
    const std::int64_t number = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
    if (number < given.n) compose(given, number, inverses, colors, kinds);
}

__global__ void draw_all(Places places, Parts parts) {
    const std::int64_t number = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
    if (number < places.n) draw(places, number, parts);
}

unsigned blocks(std::int64_t n) { return static_cast<unsigned>((n + THREADS - 1) / THREADS); }

}  // namespace

// Arguments: see compose_cpu.cpp.
extern "C" int adaflow_compose_f32(
    float* inverses, float* colors, std::uint8_t* kinds, const float* planar_drawn, const float* colors_drawn,
    const std::uint8_t* gates, std::int64_t planar_count, std::int64_t color_count, std::int64_t n, std::int64_t height,
    std::int64_t width, std::int64_t resampling, std::int64_t skipped, void* stream) {
    if (n == 0) return 0;
    const Given given{
        planar_drawn, colors_drawn, gates, planar_count, color_count, n, height, width, resampling, skipped,
    };
    compose_all<<<blocks(n), THREADS, 0, static_cast<cudaStream_t>(stream)>>>(given, inverses, colors, kinds);
    return cudaGetLastError();
}

extern "C" int adaflow_draw_f32(
    float* inverses, float* colors, std::uint8_t* kinds, float* taps, float* strengths, float* centres,
    const std::int64_t* formulas, const float* settings, const double* weights, const std::int64_t* keys,
    const double* p, const std::int64_t* images, const float* filters, std::int64_t count, std::int64_t n,
    std::int64_t channels, std::int64_t height, std::int64_t width, void* stream) {
    if (n == 0) return 0;
    const Places places{
        formulas, settings, weights, keys, p, images, filters, count, n, channels, height, width,
    };
    const Parts parts{inverses, colors, taps, strengths, centres, kinds};
    draw_all<<<blocks(n), THREADS, 0, static_cast<cudaStream_t>(stream)>>>(places, parts);
    return cudaGetLastError();
}
