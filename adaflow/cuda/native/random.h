// Counter-based random numbers, Philox4x32-10 (Salmon et al. 2011): what CPU and GPU share. See adaflow/core/random.py.

#pragma once

#include "common.h"

namespace adaflow {
namespace random {

constexpr int ROUNDS = 10;
/// Words of a block.
constexpr int WORDS = 4;

struct Block {
    std::uint32_t word[WORDS];
};

ADAFLOW_FN Block philox(Block counter, std::uint32_t key, std::uint32_t other_key) {
    for (int round = 0; round < ROUNDS; ++round) {
        const std::uint64_t first = std::uint64_t{0xD2511F53u} * counter.word[0];
        const std::uint64_t second = std::uint64_t{0xCD9E8D57u} * counter.word[2];
        counter = Block{{
            static_cast<std::uint32_t>(second >> 32) ^ counter.word[1] ^ key,
            static_cast<std::uint32_t>(second),
            static_cast<std::uint32_t>(first >> 32) ^ counter.word[3] ^ other_key,
            static_cast<std::uint32_t>(first),
        }};
        key += 0x9E3779B9u;
        other_key += 0xBB67AE85u;
    }
    return counter;
}

/// Block number `block` of an image in a call.
ADAFLOW_FN Block block_of(std::uint64_t key, std::uint64_t image, std::uint32_t call, std::uint32_t block) {
    const Block counter{{block, call, static_cast<std::uint32_t>(image), static_cast<std::uint32_t>(image >> 32)}};
    return philox(counter, static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32));
}

/// 23 bits and a half: exact in float, never 0 and never 1.
ADAFLOW_FN float uniform(std::uint32_t word) {
    return (static_cast<float>(static_cast<std::int32_t>(word >> 9)) + 0.5f) * (1.0f / 8388608.0f);
}

}  // namespace random
}  // namespace adaflow
