// The plan of a batch from what was drawn for it: maps composed to one of the plane and one of the colours, and the rest.
// What CPU and GPU share.

#pragma once

#include "formulas.h"

namespace adaflow {
namespace augment {

/// The maps of an image, of which the first one acts first.
struct Composition {
    double plane[9], mixed[16];
    bool moved, blurred, colored;

    ADAFLOW_FN Composition() : moved(false), blurred(false), colored(false) {
        for (int k = 0; k < 9; ++k) plane[k] = k % 4 == 0 ? 1.0 : 0.0;
        for (int k = 0; k < 16; ++k) mixed[k] = k % 5 == 0 ? 1.0 : 0.0;
    }

    /// product = matrix * product, both S x S.
    template <int S>
    static ADAFLOW_FN void multiply(const float* matrix, double* product) {
        double result[S * S];
        for (int row = 0; row < S; ++row)
            for (int column = 0; column < S; ++column) {
                double sum = 0;
                for (int k = 0; k < S; ++k) sum += static_cast<double>(matrix[S * row + k]) * product[S * k + column];
                result[S * row + column] = sum;
            }
        for (int k = 0; k < S * S; ++k) product[k] = result[k];
    }

    /// A map of the plane [3, 3], and whether it needs resampling in any case.
    ADAFLOW_FN void move(const float* matrix, bool resampling) {
        multiply<3>(matrix, plane);
        moved = true;
        blurred |= resampling;
    }

    /// A map of the colours [4, 4].
    ADAFLOW_FN void mix(const float* matrix) {
        multiply<4>(matrix, mixed);
        colored = true;
    }

    /// Writes the map from output to input [3, 3] and that of the colours [3, 4]. Returns what has to be done.
    ADAFLOW_FN std::uint8_t finish(std::int64_t height, std::int64_t width, float* inverse, float* colors) const {
        const double scale = 1.0 / (plane[0] * plane[4] - plane[1] * plane[3]);
        const double a = plane[4] * scale, b = -plane[1] * scale, c = -plane[3] * scale, d = plane[0] * scale;
        const double values[9] = {
            a, b, -(a * plane[2] + b * plane[5]), c, d, -(c * plane[2] + d * plane[5]), 0, 0, 1,
        };
        for (int k = 0; k < 9; ++k) inverse[k] = static_cast<float>(values[k]);
        for (int k = 0; k < 12; ++k) colors[k] = static_cast<float>(mixed[k]);
        const std::uint8_t kind = colored ? COLORED : 0;
        if (!moved) return kind;
        return kind | (blurred || !Map(inverse, height, width).whole() ? RESAMPLED : MOVED);
    }
};

/// Maps that were drawn elsewhere. The gates of the transforms of the plane come before those of the colours.
struct Given {
    const float* planar;        // [planar_count, n, 3, 3], where points go, in pixels from the centre
    const float* colors;        // [color_count, n, 4, 4]
    const std::uint8_t* gates;  // [planar_count + color_count, n]
    std::int64_t planar_count, color_count, n, height, width;
    std::int64_t resampling;  // bit k: transform k of the plane always needs resampling
    std::int64_t skipped;     // bit k: transform k of the colours means nothing for these channels
};

ADAFLOW_FN void compose(
    const Given& given, std::int64_t number, float* inverses, float* colors, std::uint8_t* kinds) {
    Composition composition;
    for (std::int64_t k = 0; k < given.planar_count; ++k)
        if (given.gates[k * given.n + number])
            composition.move(given.planar + (k * given.n + number) * 9, given.resampling >> k & 1);
    for (std::int64_t k = 0; k < given.color_count; ++k)
        if (given.gates[(given.planar_count + k) * given.n + number] && !(given.skipped >> k & 1))
            composition.mix(given.colors + (k * given.n + number) * 16);
    kinds[number] = composition.finish(given.height, given.width, inverses + 9 * number, colors + 12 * number);
}

/// The places where built-in transforms act, in order, and the images to draw for.
struct Places {
    const std::int64_t* formulas;  // [count], see Formula
    const float* settings;         // [count]
    const double* weights;         // [count], factors on p
    const std::int64_t* keys;      // [count], of their streams
    const double* p;               // the probability of a transform of weight 1
    const std::int64_t* images;    // [n], their numbers in the run
    const float* filters;          // [4, 43], of the bands
    std::int64_t count, n, channels, height, width;
};

/// Parts of a Plan that are to be written; those that no place is for may be null.
struct Parts {
    float *inverses, *colors, *taps, *strengths, *centres;
    std::uint8_t* kinds;
};

ADAFLOW_FN void draw(const Places& places, std::int64_t number, const Parts& parts) {
    const bool rgb = places.channels == 3 || places.channels == 4;
    Composition composition;
    std::uint8_t kind = 0;
    float matrix[16], gains[BANDS] = {1, 1, 1, 1};
    for (std::int64_t k = 0; k < places.count; ++k) {
        const auto formula = static_cast<Formula>(places.formulas[k]);
        const float setting = places.settings[k];
        const Drawn drawn(
            static_cast<std::uint64_t>(places.keys[k]), static_cast<std::uint64_t>(places.images[number]));
        if (!drawn.fires(gate(formula, *places.p, places.weights[k]))) continue;
        if (formula <= XFRAC) {
            planar_map(
                formula, setting, drawn, static_cast<float>(places.height), static_cast<float>(places.width), matrix);
            composition.move(matrix, formula > XINT);
        } else if (formula <= SATURATION) {
            if ((formula == HUE || formula == SATURATION) && !rgb) continue;
            color_map(formula, setting, drawn, matrix);
            composition.mix(matrix);
        } else if (formula <= BAND4) {
            amplify(static_cast<int>(formula - BAND1), drawn.factor(setting), gains);
            kind |= FILTERED;
        } else if (formula == NOISE) {
            parts.strengths[number] = drawn.half_normal(1, setting);
            kind |= NOISY;
        } else {
            parts.centres[2 * number] = drawn.unit[1], parts.centres[2 * number + 1] = drawn.unit[2];
            kind |= CUT;
        }
    }
    kind |= composition.finish(
        places.height, places.width, parts.inverses + 9 * number, parts.colors + 12 * number);
    parts.kinds[number] = kind;
    if (!(kind & FILTERED)) return;
    for (int tap = 0; tap < BAND_TAPS; ++tap) {
        float sum = 0;
        for (int band = 0; band < BANDS; ++band) sum += gains[band] * places.filters[band * BAND_TAPS + tap];
        parts.taps[BAND_TAPS * number + tap] = sum;
    }
}

}  // namespace augment
}  // namespace adaflow
