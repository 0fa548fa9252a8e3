// As much of CUDA as the kernels use, on one thread of a CPU: the threads of a block are fibers that take turns, each
// running up to its next barrier, in ascending or in descending order. Results that depend on the order lack a barrier.

#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#define __CUDACC__
#define __host__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __global__ static
#define __launch_bounds__(...)
#define __shared__ static

using std::fabs, std::floor, std::ceil, std::rint, std::fmin, std::fmax;

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
inline dim3 gridDim, blockDim, blockIdx, threadIdx;

using cudaStream_t = void*;
enum cudaError_t : int { cudaSuccess, cudaErrorInvalidConfiguration = 9 };

namespace emulation {

enum State { READY, AT_BARRIER, AT_SHUFFLE, DONE };
constexpr unsigned WARP = 32, STACK = 1 << 16;

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(STACK);
    State state;
};

inline cudaError_t error;
inline bool descending;
inline std::vector<Fiber> fibers;
inline ucontext_t scheduler;
inline std::function<void()> kernel;
inline std::vector<double> lanes;

inline Fiber& running() { return fibers[threadIdx.x]; }

inline void leave(State state) {
    Fiber& fiber = running();
    fiber.state = state;
    swapcontext(&fiber.context, &scheduler);
}

inline void begin() {
    kernel();
    leave(DONE);
}

// Let the fibers from `first` on go if all of them wait for the same; none may have returned, nor wait for another thing.
inline void pass(unsigned first, unsigned count, State barrier) {
    const auto begin = fibers.begin() + first, end = begin + count;
    const auto waits = [=](const Fiber& fiber) { return fiber.state == barrier; };
    if (std::none_of(begin, end, waits)) return;
    if (!std::all_of(begin, end, waits)) {
        std::fputs("threads of a block, or of a warp, do not all come to the same barrier\n", stderr);
        std::abort();
    }
    std::for_each(begin, end, [](Fiber& fiber) { fiber.state = READY; });
}

inline void run_block() {
    const unsigned count = blockDim.x;
    fibers.resize(count);
    lanes.resize(count);
    for (Fiber& fiber : fibers) {
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = STACK;
        makecontext(&fiber.context, begin, 0);
        fiber.state = READY;
    }
    while (std::any_of(fibers.begin(), fibers.end(), [](const Fiber& fiber) { return fiber.state != DONE; })) {
        for (unsigned k = 0; k < count; ++k) {
            threadIdx.x = descending ? count - 1 - k : k;
            if (running().state == READY) swapcontext(&scheduler, &running().context);
        }
        for (unsigned first = 0; first < count; first += WARP) pass(first, std::min(WARP, count - first), AT_SHUFFLE);
        const auto ready = [](const Fiber& fiber) { return fiber.state == READY; };
        if (std::none_of(fibers.begin(), fibers.end(), ready)) pass(0, count, AT_BARRIER);
    }
}

template <class Kernel>
void launch(dim3 grid, dim3 block, std::size_t, cudaStream_t, Kernel&& call) {
    const bool empty = !grid.x || !grid.y || !grid.z || !block.x;
    if (empty || grid.x >> 31 || grid.y > 65535 || grid.z > 65535 || block.x > 1024) {
        error = cudaErrorInvalidConfiguration;
        return;
    }
    gridDim = grid, blockDim = block, kernel = call;
    for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) run_block();
}

}  // namespace emulation

inline void __syncthreads() { emulation::leave(emulation::AT_BARRIER); }

template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    emulation::lanes[threadIdx.x] = value;
    emulation::leave(emulation::AT_SHUFFLE);
    const T other = static_cast<T>(emulation::lanes[threadIdx.x ^ mask]);
    emulation::leave(emulation::AT_SHUFFLE);
    return other;
}

inline int cudaGetLastError() {
    const int last = emulation::error;
    emulation::error = cudaSuccess;
    return last;
}

inline const char* cudaGetErrorString(cudaError_t) { return "invalid configuration argument"; }

extern "C" inline __attribute__((used)) void set_descending(int value) { emulation::descending = value != 0; }
