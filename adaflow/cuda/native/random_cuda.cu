// Random numbers on a GPU: a thread makes a block of four.

#include "random.h"

namespace {

using namespace adaflow::random;

constexpr int THREADS = 256;

template <class Kind>
__global__ void fill(
    float* out, const std::int64_t* keys, const std::int64_t* images, std::int64_t image_count, std::int64_t rows,
    std::int64_t elements, std::uint32_t call) {
    const std::int64_t blocks = (elements + WORDS - 1) / WORDS;
    const std::int64_t place = blockIdx.x * static_cast<std::int64_t>(THREADS) + threadIdx.x;
    if (place >= rows * blocks) return;
    const std::int64_t row = place / blocks, block = place % blocks;
    const auto key = static_cast<std::uint64_t>(keys[row / image_count]);
    const auto image = static_cast<std::uint64_t>(images[row % image_count]);
    const Block words = block_of(key, image, call, static_cast<std::uint32_t>(block));
    float numbers[WORDS];
    Kind::numbers(words, numbers);
    for (int k = 0; k < WORDS; ++k)
        if (WORDS * block + k < elements) out[row * elements + WORDS * block + k] = numbers[k];
}

template <class Kind>
int make(
    float* out, const std::int64_t* keys, const std::int64_t* images, std::int64_t key_count, std::int64_t image_count,
    std::int64_t elements, std::int64_t call, void* stream) {
    const std::int64_t rows = key_count * image_count, blocks = rows * ((elements + WORDS - 1) / WORDS);
    if (blocks == 0) return 0;
    fill<Kind><<<static_cast<unsigned>((blocks + THREADS - 1) / THREADS), THREADS, 0, static_cast<cudaStream_t>(stream)>>>(
        out, keys, images, image_count, rows, elements, static_cast<std::uint32_t>(call));
    return cudaGetLastError();
}

}  // namespace

// Arguments: see random_cpu.cpp.
extern "C" int adaflow_uniform_f32(
    float* out, const std::int64_t* keys, const std::int64_t* images, std::int64_t key_count, std::int64_t image_count,
    std::int64_t elements, std::int64_t call, void* stream) {
    return make<Uniform>(out, keys, images, key_count, image_count, elements, call, stream);
}
extern "C" int adaflow_normal_f32(
    float* out, const std::int64_t* keys, const std::int64_t* images, std::int64_t key_count, std::int64_t image_count,
    std::int64_t elements, std::int64_t call, void* stream) {
    return make<Normal>(out, keys, images, key_count, image_count, elements, call, stream);
}
