/* The best of each row of scores. */

#include <immintrin.h>
#include <math.h>
#include <stdint.h>

/* A score that is better than the last of the best, at which place it belongs: equals stay behind those found before. */
static inline void insert(float *values, int32_t *columns, int64_t count, float value, int32_t column)
{
    int64_t place = count - 1;
    for (; place > 0 && values[place - 1] < value; place--) {
        values[place] = values[place - 1];
        columns[place] = columns[place - 1];
    }
    values[place] = value;
    columns[place] = column;
}

/* Enters what is better among sixteen scores. */
static inline void enter(float *values, int32_t *columns, int64_t count, const float *scores, __m512 sixteen, int64_t first)
{
    __mmask16 better = _mm512_cmp_ps_mask(sixteen, _mm512_set1_ps(values[count - 1]), _CMP_GT_OQ);
    for (; better; better &= better - 1) {
        const int64_t column = first + __builtin_ctz(better);
        if (scores[column] > values[count - 1])
            insert(values, columns, count, scores[column], column);
    }
}

/* scores (rows, width) -> values and columns (rows, count), best first, the first of equals first;
 * minus infinity in column 0 where there are no more. A row with a NaN has it as its best. */
void precis_top(
    const float *scores, int64_t rows, int64_t width, int64_t count, float *values, int32_t *columns)
{
    const __m512 lowest = _mm512_set1_ps(-INFINITY);
    for (int64_t row = 0; row < rows; row++, scores += width, values += count, columns += count) {
        __mmask16 strange = 0;
        int64_t column = 0;
        for (int64_t place = 0; place < count; place++) {
            values[place] = -INFINITY;
            columns[place] = 0;
        }
        for (; column + 64 <= width; column += 64) {
            __m512 four[4];
            for (int part = 0; part < 4; part++)
                four[part] = _mm512_loadu_ps(scores + column + 16 * part);
            strange |= _mm512_cmp_ps_mask(four[0], four[1], _CMP_UNORD_Q) | _mm512_cmp_ps_mask(four[2], four[3], _CMP_UNORD_Q);
            const __m512 highest = _mm512_max_ps(_mm512_max_ps(four[0], four[1]), _mm512_max_ps(four[2], four[3]));
            if (_mm512_cmp_ps_mask(highest, _mm512_set1_ps(values[count - 1]), _CMP_GT_OQ))
                for (int part = 0; part < 4; part++)
                    enter(values, columns, count, scores, four[part], column + 16 * part);
        }
        for (; column < width; column += 16) {
            const __mmask16 real = width - column < 16 ? (1u << (width - column)) - 1 : 0xffff;
            const __m512 sixteen = _mm512_mask_loadu_ps(lowest, real, scores + column);
            strange |= _mm512_cmp_ps_mask(sixteen, sixteen, _CMP_UNORD_Q);
            enter(values, columns, count, scores, sixteen, column);
        }
        if (strange)
            values[0] = NAN;
    }
}
