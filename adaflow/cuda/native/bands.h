// A symmetric filter along both axes of reflected images: what CPU and GPU share.
//
// The filter as a matrix on a signal reflected at the centres of its outermost pixels is symmetric but for these two,
// which have no mirror image and so count half. Its transpose doubles them before, and halves them after.

#pragma once

#include "augment.h"

namespace adaflow {
namespace bands {

constexpr int TAPS = augment::BAND_TAPS;
constexpr int REACH = TAPS / 2;

/// What a pixel's value is multiplied by before the transposed filter; after it, divide.
ADAFLOW_FN int border(std::int64_t index, std::int64_t size) { return index == 0 || index == size - 1 ? 2 : 1; }

}  // namespace bands
}  // namespace adaflow
