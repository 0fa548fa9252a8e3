// Geometry and colours of a batch on a GPU, and what there is to launch. No atomics, and nothing that the host would have
// to wait for: what happens to an image is read from device memory.
//
// Forward, a block makes a tile of the output: it looks the points of its part of the grid up, keeps them in shared
// memory and halves the resolution there. The adjoint first takes the gradient of the output to the points of the grid,
// then each pixel of the image gathers what is its own. Filters are a pass of their own, after this one or, for the
// adjoint, before it; noise and cutout are done where the last pass stores its pixels.

#include "augment_points.h"
#include "bands_cuda.h"

namespace {

using namespace adaflow;
using namespace adaflow::augment;

constexpr int THREADS = 256;
/// Channels that a thread of the adjoint works on at once.
constexpr int GROUP = 4;

/// Output pixels along the side of a tile: what fits into 48 KB of shared memory.
template <typename T>
constexpr int TILE = sizeof(T) == 4 ? 32 : 16;

/// Where the images are, and memory for the adjoint.
template <typename T>
struct Batch : Plan {
    const T* from;
    T* to;
    T* grid;  // [n, channels, 2 * height + 10, 2 * width + 10]
    bool finishes;  // whether noise and cutout are done here

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

/// A pixel of the output becomes the one that is copied there by a map of whole pixels.
__device__ void find_source(
    const Map& map, std::int64_t height, std::int64_t width, std::int64_t& column, std::int64_t& row) {
    const double right = static_cast<double>(column), down = static_cast<double>(row);
    column = reflect(static_cast<std::int64_t>(map.a * right + map.b * down + map.c), width);
    row = reflect(static_cast<std::int64_t>(map.d * right + map.e * down + map.f), height);
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
    const std::int64_t number = blockIdx.z, plane = batch.plane();
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
                    std::int64_t source_x = column, source_y = row;
                    find_source(map, batch.height, batch.width, source_x, source_y);
                    pixels[k][l] = in[source_y * batch.width + source_x];
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
            for (int l = 0; l < GROUP; ++l) {
                if (l >= count) break;
                const std::int64_t place = (first + l) * plane + row * batch.width + column;
                to[place] = batch.finishes ? finished(batch, number, place, row, column, pixels[k][l]) : pixels[k][l];
            }
        }
    }
}

/// The gradient of the output, before its colours were mapped, at the points of the grid: a thread for each point.
template <typename T>
__global__ void __launch_bounds__(THREADS) fill_grid(Batch<T> batch) {
    const std::int64_t number = blockIdx.y, plane = batch.plane();
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

/// Whether a map folds the output over the image so often that its mirror images are more than its pixels.
__device__ bool folds_often(const Map& map, std::int64_t height, std::int64_t width) {
    const Extent extent(map, height, width);
    const double across = (extent.u_high - extent.u_low) / static_cast<double>(width);
    const double down = (extent.v_high - extent.v_low) / static_cast<double>(height);
    return across * down > 16.0 * static_cast<double>(width) * static_cast<double>(height);
}

/// What `gather_resampled` gives, from all points of the grid: their number is bounded, whatever the map.
template <typename T>
__device__ __noinline__ void gather_from_all_points(
    const T* grid, int planes, std::int64_t height, std::int64_t width, std::int64_t x, std::int64_t y, const Map& map,
    const Taps<T>& taps, T* sums) {
    const std::int64_t grid_width = 2 * width + GRID_MARGIN, grid_height = 2 * height + GRID_MARGIN;
    for (std::int64_t point = 0; point < grid_width * grid_height; ++point) {
        const double i = static_cast<double>(point % grid_width), j = static_cast<double>(point / grid_width);
        const Seen<T> columns(map.u(i, j), width, taps), rows(map.v(i, j), height, taps);
        T across = 0, down = 0;
        for (int k = 0; k < SEEN; ++k) {
            across += columns.index[k] == x ? columns.weight[k] : T(0);
            down += rows.index[k] == y ? rows.weight[k] : T(0);
        }
        if (across == T(0) || down == T(0)) continue;
        for (int l = 0; l < planes; ++l) sums[l] += across * down * grid[l * grid_width * grid_height + point];
    }
}

/// What `gather_moved` gives, from all pixels of the output.
template <typename T>
__device__ __noinline__ void gather_from_all_pixels(
    const T* output, int planes, std::int64_t height, std::int64_t width, std::int64_t x, std::int64_t y,
    const Map& map, T* sums) {
    for (std::int64_t place = 0; place < height * width; ++place) {
        std::int64_t column = place % width, row = place / width;
        find_source(map, height, width, column, row);
        if (column != x || row != y) continue;
        for (int l = 0; l < planes; ++l) sums[l] += output[l * height * width + place];
    }
}

/// The gradient of the images: a thread for each pixel.
template <typename T>
__global__ void __launch_bounds__(THREADS) gather(Batch<T> batch) {
    const std::int64_t number = blockIdx.y, plane = batch.plane();
    const std::int64_t points = batch.grid_width() * batch.grid_height();
    const std::int64_t pixel = blockIdx.x * static_cast<std::int64_t>(THREADS) + threadIdx.x;
    if (pixel >= plane) return;
    const std::int64_t x = pixel % batch.width, y = pixel / batch.width;
    const std::uint8_t kind = batch.kinds[number];
    const Map map = kind & RESAMPLED ? batch.map(number) : batch.map(number).rounded();
    const bool singular = map.a * map.e == map.b * map.d, from_all = folds_often(map, batch.height, batch.width);
    Taps<T> taps;
    taps.fill();
    const Colors<T> colors = batch.mixing(number);
    for (std::int64_t first = 0; first < batch.channels; first += GROUP) {
        const int count = static_cast<int>(batch.channels - first < GROUP ? batch.channels - first : GROUP);
        const T* from = batch.from + number * batch.size() + first * plane;
        T values[GROUP] = {};
        if (kind & RESAMPLED) {
            const T* grid = batch.grid + (number * batch.channels + first) * points;
            if (from_all)
                gather_from_all_points(grid, count, batch.height, batch.width, x, y, map, taps, values);
            else
                gather_resampled(grid, count, batch.height, batch.width, x, y, map, taps, values);
        } else {
            if (kind & MOVED) {
                if (from_all || singular)
                    gather_from_all_pixels(from, count, batch.height, batch.width, x, y, map, values);
                else
                    gather_moved(from, count, batch.height, batch.width, x, y, map, values);
            } else {
                for (int l = 0; l < count; ++l) values[l] = from[l * plane + pixel];
            }
            mix(colors, first, count, values);
        }
        for (int l = 0; l < count; ++l) batch.to[number * batch.size() + (first + l) * plane + pixel] = values[l];
    }
}

unsigned blocks(std::int64_t items, std::int64_t each) { return static_cast<unsigned>((items + each - 1) / each); }

/// Filters, and what comes last, or the adjoint of these.
template <typename T>
void filter(const T* images, T* out, const Plan& plan, cudaStream_t queue) {
    using bands::filter_tiles;
    const dim3 tiles(
        blocks(plan.width, bands::TILE<T>), blocks(plan.height, bands::TILE<T>), blocks(plan.n * plan.channels, 1));
    filter_tiles<<<tiles, bands::THREADS, 0, queue>>>(images, out, plan);
}

/// `spare` is memory for as many images again, where there are filters or, for the adjoint, cutouts.
template <typename T>
int run(const T* images, T* out, T* grid, T* spare, const Plan& plan, void* stream) {
    if (plan.n * plan.size() == 0) return 0;
    const auto queue = static_cast<cudaStream_t>(stream);
    const auto n = static_cast<unsigned>(plan.n);
    if (plan.transposed) {
        if (spare != nullptr) filter(images, spare, plan, queue);
        const Batch<T> batch{plan, spare != nullptr ? spare : images, out, grid, false};
        const std::int64_t points = (2 * plan.width + GRID_MARGIN) * (2 * plan.height + GRID_MARGIN);
        fill_grid<<<dim3(blocks(points, THREADS), n), THREADS, 0, queue>>>(batch);
        gather<<<dim3(blocks(plan.plane(), THREADS), n), THREADS, 0, queue>>>(batch);
    } else {
        const Batch<T> batch{plan, images, spare != nullptr ? spare : out, nullptr, spare == nullptr};
        forward<<<dim3(blocks(plan.width, TILE<T>), blocks(plan.height, TILE<T>), n), THREADS, 0, queue>>>(batch);
        if (spare != nullptr) filter(spare, out, plan, queue);
    }
    return cudaGetLastError();
}

}  // namespace

// Arguments: see augment_cpu.cpp. Memory: grid [n, channels, 2 * height + 10, 2 * width + 10], for the adjoint; spare
// [n, channels, height, width], where there are filters or, for the adjoint, cutouts.
extern "C" int adaflow_augment_f32(
    const float* images, float* out, const float* inverses, const float* colors, const std::uint8_t* kinds,
    const float* taps, const float* strengths, const std::int64_t* numbers, const float* centres,
    std::int64_t noise_key, float cutout, float* grid, float* spare, std::int64_t n, std::int64_t channels,
    std::int64_t height, std::int64_t width, int transposed, int derivative, void* stream) {
    const Plan plan{
        inverses, colors, kinds, taps, strengths, numbers, centres, static_cast<std::uint64_t>(noise_key), cutout, n,
        channels, height, width, transposed != 0, derivative != 0,
    };
    return run<float>(images, out, grid, spare, plan, stream);
}

extern "C" int adaflow_augment_f64(
    const double* images, double* out, const float* inverses, const float* colors, const std::uint8_t* kinds,
    const float* taps, const float* strengths, const std::int64_t* numbers, const float* centres,
    std::int64_t noise_key, float cutout, double* grid, double* spare, std::int64_t n, std::int64_t channels,
    std::int64_t height, std::int64_t width, int transposed, int derivative, void* stream) {
    const Plan plan{
        inverses, colors, kinds, taps, strengths, numbers, centres, static_cast<std::uint64_t>(noise_key), cutout, n,
        channels, height, width, transposed != 0, derivative != 0,
    };
    return run<double>(images, out, grid, spare, plan, stream);
}
