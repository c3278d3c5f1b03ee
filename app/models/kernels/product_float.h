/* Products in float32, each row's sums in one order: a row's result never depends on the rows beside it. */

#ifndef PRECIS_PRODUCT_FLOAT_H
#define PRECIS_PRODUCT_FLOAT_H

#include "product.h"

#define FLOAT_BLOCK 6 /* rows that are computed together: with more of them, sums do not stay in registers */

/* One panel for `count` rows, a constant. Rows lie `stride` floats apart, results `width`. */
static inline __attribute__((always_inline)) void float_panel(
    const int count, const float *rows, int64_t stride, const float *weight, const float *bias, int64_t inputs, float *out,
    int64_t width)
{
    __m512 sums[FLOAT_BLOCK][4];
    for (int row = 0; row < count; row++)
        for (int part = 0; part < 4; part++)
            sums[row][part] = _mm512_loadu_ps(bias + 16 * part);
    for (int64_t input = 0; input < inputs; input++, weight += PANEL) {
        __m512 weights[4];
        for (int part = 0; part < 4; part++)
            weights[part] = _mm512_loadu_ps(weight + 16 * part);
        for (int row = 0; row < count; row++) {
            const __m512 number = _mm512_set1_ps(rows[row * stride + input]);
            for (int part = 0; part < 4; part++)
                sums[row][part] = _mm512_fmadd_ps(weights[part], number, sums[row][part]);
        }
    }
    for (int row = 0; row < count; row++)
        for (int part = 0; part < 4; part++)
            _mm512_storeu_ps(out + row * width + 16 * part, sums[row][part]);
}

/* rows (count, inputs) -> out (count, outputs): rows W^T + b. Of the product, `weight` is float32 (outputs / 64, inputs,
 * 64), and there is no scale. */
static inline void multiply_float(
    const Product *product, const float *rows, int64_t count, int64_t stride, float *out, int64_t width)
{
    const int64_t blocks = (count + FLOAT_BLOCK - 1) / FLOAT_BLOCK, inputs = product->inputs;
    for (int64_t first = 0; first < product->outputs; first += PANEL) {
        const float *weight = (const float *)product->weight + first * inputs, *bias = product->bias + first;
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t row = block * count / blocks, size = (block + 1) * count / blocks - row;
            const float *own = rows + row * stride;
            float *place = out + row * width + first;
#define FLOAT_PANEL_OF(SIZE)                                                                                             \
    case SIZE:                                                                                                           \
        float_panel(SIZE, own, stride, weight, bias, inputs, place, width);                                              \
        break;
            switch (size) {
                FLOAT_PANEL_OF(1)
                FLOAT_PANEL_OF(2)
                FLOAT_PANEL_OF(3)
                FLOAT_PANEL_OF(4)
                FLOAT_PANEL_OF(5)
                FLOAT_PANEL_OF(6)
            }
#undef FLOAT_PANEL_OF
        }
    }
}

#endif
