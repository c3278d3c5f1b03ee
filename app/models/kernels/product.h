/* Products of int8 rows with int8 weights, whose sums are exact: a row's result never depends on the rows beside it.
 *
 * VPDPBUSD multiplies unsigned by signed bytes. Weights are stored as w + 128, so that rows are read where they stand;
 * what that adds to a sum is 128 times the sum of the row.
 */

#ifndef PRECIS_PRODUCT_H
#define PRECIS_PRODUCT_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define PANEL 64 /* outputs that are computed together: four registers */
#define BLOCK 4  /* rows that are computed together: with more of them, sums do not stay in registers */

/* Weights of `inputs` (a multiple of 4) to `outputs` (a multiple of PANEL): weight[outputs / 64][inputs / 4][64][4]. */
typedef struct {
    const uint8_t *weight;
    const float *scale; /* (outputs) what 1 in a sum stands for, if 1 in the row stands for 1 */
    const float *bias;  /* (outputs) */
    int64_t inputs;
    int64_t outputs;
    int64_t split; /* a row is rounded to two bytes for each number: split_row of functions.h */
} Product;

static inline __attribute__((always_inline)) int32_t broadcast(const int8_t *bytes)
{
    int32_t four;
    memcpy(&four, bytes, 4);
    return four;
}

/* One panel for `count` rows, a constant. Rows lie `stride` bytes apart, results `width` floats. */
static inline __attribute__((always_inline)) void panel(
    const int count, const int8_t *rows, int64_t stride, const float *units, const int32_t *excess, const uint8_t *weight,
    const float *scale, const float *bias, int64_t inputs, float *out, int64_t width)
{
    __m512i sums[BLOCK][4];
    for (int row = 0; row < count; row++)
        for (int part = 0; part < 4; part++)
            sums[row][part] = _mm512_set1_epi32(-excess[row]);
    for (int64_t input = 0; input < inputs; input += 4, weight += 4 * PANEL) {
        __m512i weights[4];
        for (int part = 0; part < 4; part++)
            weights[part] = _mm512_loadu_si512(weight + 64 * part);
        for (int row = 0; row < count; row++) {
            const __m512i four = _mm512_set1_epi32(broadcast(rows + row * stride + input));
            for (int part = 0; part < 4; part++)
                sums[row][part] = _mm512_dpbusd_epi32(sums[row][part], weights[part], four);
        }
    }
    for (int row = 0; row < count; row++)
        for (int part = 0; part < 4; part++) {
            const __m512 factor = _mm512_mul_ps(_mm512_loadu_ps(scale + 16 * part), _mm512_set1_ps(units[row]));
            const __m512 start = bias ? _mm512_loadu_ps(bias + 16 * part) : _mm512_loadu_ps(out + row * width + 16 * part);
            _mm512_storeu_ps(out + row * width + 16 * part, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[row][part]), factor, start));
        }
}

static inline int32_t sum_of(const int8_t *row, int64_t size)
{
    int32_t sum = 0;
    for (int64_t place = 0; place < size; place++)
        sum += row[place];
    return sum;
}

/* rows (count, inputs), of which 1 stands for `units[row]` -> out (count, outputs): rows W^T + b, or without a bias
 * added to what is there. excess: room for `count` numbers. */
static inline void multiply(
    const Product *product, const int8_t *rows, int64_t count, int64_t stride, const float *units, int add, float *out,
    int64_t width, int32_t *excess)
{
    for (int64_t row = 0; row < count; row++)
        excess[row] = 128 * sum_of(rows + row * stride, product->inputs);
    const int64_t blocks = (count + BLOCK - 1) / BLOCK;
    for (int64_t first = 0; first < product->outputs; first += PANEL) {
        const uint8_t *weight = product->weight + first * product->inputs;
        const float *scale = product->scale + first, *bias = add ? NULL : product->bias + first;
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t row = block * count / blocks, size = (block + 1) * count / blocks - row;
            const int8_t *own = rows + row * stride;
            float *place = out + row * width + first;
#define PANEL_OF(SIZE)                                                                                                   \
    case SIZE:                                                                                                           \
        panel(SIZE, own, stride, units + row, excess + row, weight, scale, bias, product->inputs, place, width);         \
        break;
            switch (size) {
                PANEL_OF(1)
                PANEL_OF(2)
                PANEL_OF(3)
                PANEL_OF(4)
            }
#undef PANEL_OF
        }
    }
}

#endif
