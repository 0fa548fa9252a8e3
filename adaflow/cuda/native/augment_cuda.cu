// The augmentation of a batch on a GPU. No atomics, and nothing that the host would have to wait for: what happens to
// an image is read from device memory.
//
// Forward, a block makes a tile of the output: it looks the points of its part of the grid up, keeps them in shared
// memory and halves the resolution there. The adjoint first takes the gradient of the output to the points of the grid,
// then each pixel of the image gathers what is its own.

#include "augment_points.h"

namespace {

using namespace adaflow;
using namespace adaflow::augment;

constexpr int THREADS = 256;
/// Channels that a thread of the adjoint works on at once.
constexpr int GROUP = 4;

/// Output pixels along the side of a tile: what fits into 48 KB of shared memory.
template <typename T>
constexpr int TILE = sizeof(T) == 4 ? 32 : 16;

/// A batch of images [n, channels, height, width], and what happens to them.
template <typename T>
struct Batch {
    const T* from;
    T* to;
    const float* inverses;
    const float* colors;
    const std::uint8_t* kinds;
    T* grid;  // [n, channels, 2 * height + 10, 2 * width + 10], for the adjoint
    std::int64_t n, channels, height, width;
    bool transposed, derivative;

    __device__ std::int64_t size() const { return channels * height * width; }
    __device__ std::int64_t grid_width() const { return 2 * width + GRID_MARGIN; }
    __device__ std::int64_t grid_height() const { return 2 * height + GRID_MARGIN; }
    __device__ Map map(std::int64_t number) const { return Map(inverses + 9 * number, height, width); }
    __device__ Colors<T> mixing(std::int64_t number) const {
        return Colors<T>(colors + 12 * number, channels, kinds[number], transposed, derivative);
    }
};

/// Map the colours of the `count` channels of a pixel from channel `first` on.
template <typename T>
__device__ void mix(const Colors<T>& colors, std::int64_t first, int count, T* pixel) {
    if (!colors.on) return;
    if (colors.rgb) {
        const T red = pixel[0], green = pixel[1], blue = pixel[2];
        for (int row = 0; row < 3; ++row) {
            const T* m = colors.m[row];
            pixel[row] = m[0] * red + m[1] * green + m[2] * blue + colors.offset[row];
        }
    } else {
        for (int l = 0; l < count; ++l) pixel[l] = colors.gain() * pixel[l] + colors.offset[0];
    }
}

/// Looks up the points of a tile's part of the grid in one plane, and halves the resolution: shared memory of a block.
template <typename T>
struct Tile {
    static constexpr int POINTS = 2 * TILE<T> + GRID_MARGIN;
    T points[POINTS][POINTS + 1];
    T lines[TILE<T>][POINTS + 1];
    Taps<T> taps;

    __device__ void fill(
        const T* plane, std::int64_t height, std::int64_t width, std::int64_t x, std::int64_t y, const Map& map) {
        for (int k = threadIdx.x; k < POINTS * POINTS; k += THREADS) {
            const int i = k % POINTS, j = k / POINTS;
            const double across = static_cast<double>(2 * x + i), down = static_cast<double>(2 * y + j);
            const Seen<T> columns(map.u(across, down), width, taps), rows(map.v(across, down), height, taps);
            points[j][i] = look_up_point(plane, width, columns, rows);
        }
        __syncthreads();
        for (int k = threadIdx.x; k < TILE<T> * POINTS; k += THREADS) {
            const int i = k % POINTS, row = k / POINTS;
            T sum = 0;
            for (int tap = 0; tap < TAPS; ++tap) sum += taps[tap] * points[2 * row + tap][i];
            lines[row][i] = sum;
        }
        __syncthreads();
    }

    __device__ T pixel(int column, int row) const {
        T sum = 0;
        for (int tap = 0; tap < TAPS; ++tap) sum += taps[tap] * lines[row][2 * column + tap];
        return sum;
    }
};

template <typename T>
__global__ void __launch_bounds__(THREADS) forward(Batch<T> batch) {
    constexpr int EACH = TILE<T> * TILE<T> / THREADS;
    __shared__ Tile<T> tile;
    const std::int64_t number = blockIdx.z, plane = batch.height * batch.width;
    const std::int64_t x = blockIdx.x * static_cast<std::int64_t>(TILE<T>);
    const std::int64_t y = blockIdx.y * static_cast<std::int64_t>(TILE<T>);
    const T* from = batch.from + number * batch.size();
    T* to = batch.to + number * batch.size();
    const std::uint8_t kind = batch.kinds[number];
    const Map map = kind & RESAMPLED ? batch.map(number) : batch.map(number).rounded();
    const Colors<T> colors = batch.mixing(number);
    if (threadIdx.x == 0) tile.taps.fill();
    __syncthreads();

    for (std::int64_t first = 0; first < batch.channels; first += GROUP) {
        const int count = static_cast<int>(batch.channels - first < GROUP ? batch.channels - first : GROUP);
        T pixels[EACH][GROUP];
#pragma unroll
        for (int l = 0; l < GROUP; ++l) {
            if (l >= count) break;
            const T* in = from + (first + l) * plane;
            if (kind & RESAMPLED) tile.fill(in, batch.height, batch.width, x, y, map);
#pragma unroll
            for (int k = 0; k < EACH; ++k) {
                const int own = threadIdx.x + k * THREADS;
                const std::int64_t column = x + own % TILE<T>, row = y + own / TILE<T>;
                if (column >= batch.width || row >= batch.height) continue;
                if (kind & RESAMPLED) {
                    pixels[k][l] = tile.pixel(own % TILE<T>, own / TILE<T>);
                } else if (kind & MOVED) {
                    const double right = static_cast<double>(column), down = static_cast<double>(row);
                    const auto source_x = static_cast<std::int64_t>(map.a * right + map.b * down + map.c);
                    const auto source_y = static_cast<std::int64_t>(map.d * right + map.e * down + map.f);
                    pixels[k][l] = in[reflect(source_y, batch.height) * batch.width + reflect(source_x, batch.width)];
                } else {
                    pixels[k][l] = in[row * batch.width + column];
                }
            }
            // The next plane's points go where these were.
            __syncthreads();
        }
#pragma unroll
        for (int k = 0; k < EACH; ++k) {
            const int own = threadIdx.x + k * THREADS;
            const std::int64_t column = x + own % TILE<T>, row = y + own / TILE<T>;
            if (column >= batch.width || row >= batch.height) continue;
            mix(colors, first, count, pixels[k]);
#pragma unroll
            for (int l = 0; l < GROUP; ++l)
                if (l < count) to[(first + l) * plane + row * batch.width + column] = pixels[k][l];
        }
    }
}

/// The gradient of the output, before its colours were mapped, at the points of the grid: a thread for each point.
template <typename T>
__global__ void __launch_bounds__(THREADS) fill_grid(Batch<T> batch) {
    const std::int64_t number = blockIdx.y, plane = batch.height * batch.width;
    const std::int64_t points = batch.grid_width() * batch.grid_height();
    const std::int64_t point = blockIdx.x * static_cast<std::int64_t>(THREADS) + threadIdx.x;
    if (point >= points || !(batch.kinds[number] & RESAMPLED)) return;
    const std::int64_t i = point % batch.grid_width(), j = point / batch.grid_width();
    Taps<T> taps;
    taps.fill();
    const Colors<T> colors = batch.mixing(number);
    for (std::int64_t first = 0; first < batch.channels; first += GROUP) {
        const int count = static_cast<int>(batch.channels - first < GROUP ? batch.channels - first : GROUP);
        T values[GROUP] = {};
        for (int l = 0; l < count; ++l)
            values[l] = grid_gradient(
                batch.from + number * batch.size() + (first + l) * plane, batch.height, batch.width, i, j, taps);
        mix(colors, first, count, values);
        for (int l = 0; l < count; ++l) batch.grid[(number * batch.channels + first + l) * points + point] = values[l];
    }
}

/// The gradient of the images: a thread for each pixel.
template <typename T>
__global__ void __launch_bounds__(THREADS) gather(Batch<T> batch) {
    const std::int64_t number = blockIdx.y, plane = batch.height * batch.width;
    const std::int64_t points = batch.grid_width() * batch.grid_height();
    const std::int64_t pixel = blockIdx.x * static_cast<std::int64_t>(THREADS) + threadIdx.x;
    if (pixel >= plane) return;
    const std::int64_t x = pixel % batch.width, y = pixel / batch.width;
    const std::uint8_t kind = batch.kinds[number];
    const Map map = batch.map(number);
    Taps<T> taps;
    taps.fill();
    const Colors<T> colors = batch.mixing(number);
    for (std::int64_t first = 0; first < batch.channels; first += GROUP) {
        const int count = static_cast<int>(batch.channels - first < GROUP ? batch.channels - first : GROUP);
        const T* from = batch.from + number * batch.size() + first * plane;
        T values[GROUP] = {};
        if (kind & RESAMPLED) {
            const T* grid = batch.grid + (number * batch.channels + first) * points;
            gather_resampled(grid, count, batch.height, batch.width, x, y, map, taps, values);
        } else {
            if (kind & MOVED) {
                gather_moved(from, count, batch.height, batch.width, x, y, map.rounded(), values);
            } else {
                for (int l = 0; l < count; ++l) values[l] = from[l * plane + pixel];
            }
            mix(colors, first, count, values);
        }
        for (int l = 0; l < count; ++l) batch.to[number * batch.size() + (first + l) * plane + pixel] = values[l];
    }
}

unsigned blocks(std::int64_t items, std::int64_t each) { return static_cast<unsigned>((items + each - 1) / each); }

template <typename T>
int run(const Batch<T>& batch, void* stream) {
    if (batch.n * batch.channels * batch.height * batch.width == 0) return 0;
    const auto queue = static_cast<cudaStream_t>(stream);
    const auto n = static_cast<unsigned>(batch.n);
    if (batch.transposed) {
        const std::int64_t points = (2 * batch.width + GRID_MARGIN) * (2 * batch.height + GRID_MARGIN);
        fill_grid<<<dim3(blocks(points, THREADS), n), THREADS, 0, queue>>>(batch);
        gather<<<dim3(blocks(batch.height * batch.width, THREADS), n), THREADS, 0, queue>>>(batch);
    } else {
        forward<<<dim3(blocks(batch.width, TILE<T>), blocks(batch.height, TILE<T>), n), THREADS, 0, queue>>>(batch);
    }
    return cudaGetLastError();
}

}  // namespace

// Arguments: see augment_cpu.cpp. grid [n, channels, 2 * height + 10, 2 * width + 10] is memory for the adjoint.
extern "C" int adaflow_augment_f32(
    const float* images, float* out, const float* inverses, const float* colors, const std::uint8_t* kinds, float* grid,
    std::int64_t n, std::int64_t channels, std::int64_t height, std::int64_t width, int transposed, int derivative,
    void* stream) {
    return run<float>(
        {images, out, inverses, colors, kinds, grid, n, channels, height, width, transposed != 0, derivative != 0},
        stream);
}

extern "C" int adaflow_augment_f64(
    const double* images, double* out, const float* inverses, const float* colors, const std::uint8_t* kinds,
    double* grid, std::int64_t n, std::int64_t channels, std::int64_t height, std::int64_t width, int transposed,
    int derivative, void* stream) {
    return run<double>(
        {images, out, inverses, colors, kinds, grid, n, channels, height, width, transposed != 0, derivative != 0},
        stream);
}
