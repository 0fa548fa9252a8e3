// Random numbers on a GPU: a thread makes a block of four.

#include "random.h"

namespace {

using namespace adaflow::random;

constexpr int THREADS = 256;

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
    for (int k = 0; k < WORDS; ++k)
        if (WORDS * block + k < elements) out[row * elements + WORDS * block + k] = uniform(words.word[k]);
}

}  // namespace

// Arguments: see random_cpu.cpp.
extern "C" int adaflow_uniform_f32(
    float* out, const std::int64_t* keys, const std::int64_t* images, std::int64_t key_count, std::int64_t image_count,
    std::int64_t elements, std::int64_t call, void* stream) {
    const std::int64_t rows = key_count * image_count, blocks = rows * ((elements + WORDS - 1) / WORDS);
    if (blocks == 0) return 0;
    fill<<<static_cast<unsigned>((blocks + THREADS - 1) / THREADS), THREADS, 0, static_cast<cudaStream_t>(stream)>>>(
        out, keys, images, image_count, rows, elements, static_cast<std::uint32_t>(call));
    return cudaGetLastError();
}
