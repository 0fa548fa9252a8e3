// A symmetric filter of its own for each image of a batch, on a GPU: a block filters a tile of one plane.

#include "bands.h"

namespace {

using namespace adaflow;
using namespace adaflow::bands;

constexpr int THREADS = 256;

/// Pixels along the side of a tile: what fits, with all that it sees, into 48 KB of shared memory.
template <typename T>
constexpr int TILE = sizeof(T) == 4 ? 32 : 16;

template <typename T>
__global__ void __launch_bounds__(THREADS) filter(
    const T* images, T* out, const T* taps, const std::uint8_t* fired, std::int64_t channels, std::int64_t height,
    std::int64_t width, bool transposed) {
    constexpr int WIDE = TILE<T> + 2 * REACH;
    __shared__ T seen[WIDE][WIDE + 1], lines[WIDE][TILE<T> + 1], weights[TAPS];
    const std::int64_t number = blockIdx.z / channels, plane = blockIdx.z * height * width;
    const std::int64_t x = blockIdx.x * static_cast<std::int64_t>(TILE<T>);
    const std::int64_t y = blockIdx.y * static_cast<std::int64_t>(TILE<T>);
    const bool filtered = fired[number] != 0;
    if (filtered) {
        for (int k = threadIdx.x; k < TAPS; k += THREADS) weights[k] = taps[number * TAPS + k];
        for (int k = threadIdx.x; k < WIDE * WIDE; k += THREADS) {
            const std::int64_t column = augment::reflect(x + k % WIDE - REACH, width);
            const std::int64_t row = augment::reflect(y + k / WIDE - REACH, height);
            const T value = images[plane + row * width + column];
            seen[k / WIDE][k % WIDE] = transposed ? value * T(border(column, width) * border(row, height)) : value;
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
        const std::int64_t place = plane + row * width + column;
        T sum = filtered ? T(0) : images[place];
        for (int tap = 0; filtered && tap < TAPS; ++tap) sum += weights[tap] * lines[k / TILE<T> + tap][k % TILE<T>];
        out[place] = filtered && transposed ? sum / T(border(column, width) * border(row, height)) : sum;
    }
}

template <typename T>
int run(
    const T* images, T* out, const T* taps, const std::uint8_t* fired, std::int64_t n, std::int64_t channels,
    std::int64_t height, std::int64_t width, bool transposed, void* stream) {
    if (n * channels * height * width == 0) return 0;
    const auto across = static_cast<unsigned>((width + TILE<T> - 1) / TILE<T>);
    const auto down = static_cast<unsigned>((height + TILE<T> - 1) / TILE<T>);
    filter<<<dim3(across, down, static_cast<unsigned>(n * channels)), THREADS, 0, static_cast<cudaStream_t>(stream)>>>(
        images, out, taps, fired, channels, height, width, transposed);
    return cudaGetLastError();
}

}  // namespace

// Arguments: see bands_cpu.cpp.
extern "C" int adaflow_bands_f32(
    const float* images, float* out, const float* taps, const std::uint8_t* fired, std::int64_t n,
    std::int64_t channels, std::int64_t height, std::int64_t width, int transposed, void* stream) {
    return run(images, out, taps, fired, n, channels, height, width, transposed != 0, stream);
}

extern "C" int adaflow_bands_f64(
    const double* images, double* out, const double* taps, const std::uint8_t* fired, std::int64_t n,
    std::int64_t channels, std::int64_t height, std::int64_t width, int transposed, void* stream) {
    return run(images, out, taps, fired, n, channels, height, width, transposed != 0, stream);
}
