/* exp, sigmoid, tanh and others of sixteen numbers, what int8 makes of them, and the softmax of a row: each on its own,
 * whatever stands beside it. */

#ifndef PRECIS_FUNCTIONS_H
#define PRECIS_FUNCTIONS_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>

#define LANES 16
#define SMALLEST 1e-30f
#define SPLIT 16256.0f /* 127 * 128: the largest number as two bytes */
#define UNIT 126.0f /* int8 for 1, where numbers lie within -1 and 1 */

/* e^x to about 1e-7 of it; 0 far below zero, minus infinity included. NaN stays NaN.
 * x = n ln 2 + r with |r| <= ln 2 / 2, then e^r by its Taylor series to the seventh power. */
static inline __m512 exponential(__m512 x)
{
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 sum = _mm512_set1_ps(1.0f / 5040);
    sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 720));
    sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 120));
    sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 24));
    sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 6));
    sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(0.5f));
    sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f));
    sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f));
    /* Below -104 even the smallest number is too large, and n may be infinite, and r no number. */
    const __mmask16 gone = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-104.0f), _CMP_LT_OQ);
    return _mm512_maskz_scalef_ps(_knot_mask16(gone), sum, n);
}

static inline __m512 sigmoid(__m512 x)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 bounded = _mm512_max_ps(_mm512_set1_ps(-80.0f), x); /* in this order NaN stays NaN */
    return _mm512_div_ps(one, _mm512_add_ps(one, exponential(_mm512_sub_ps(_mm512_setzero_ps(), bounded))));
}

static inline __m512 hyperbolic_tangent(__m512 x)
{
    const __m512 twice = sigmoid(_mm512_add_ps(x, x));
    return _mm512_sub_ps(_mm512_add_ps(twice, twice), _mm512_set1_ps(1.0f));
}

/* Abramowitz & Stegun 7.1.26: to 2e-7. */
static inline __m512 error_function(__m512 x)
{
    const __m512 one = _mm512_set1_ps(1.0f), size = _mm512_abs_ps(x);
    const __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(size, _mm512_set1_ps(0.3275911f), one));
    __m512 sum = _mm512_set1_ps(1.061405429f);
    sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(-1.453152027f));
    sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(1.421413741f));
    sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(-0.284496736f));
    sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(0.254829592f));
    const __m512 rest = exponential(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(x, x)));
    const __m512 value = _mm512_fnmadd_ps(_mm512_mul_ps(sum, t), rest, one);
    return _mm512_mask_sub_ps(value, _mm512_movepi32_mask(_mm512_castps_si512(x)), _mm512_setzero_ps(), value);
}

/* Sixteen numbers, rounded to int8. */
static inline void store_bytes(int8_t *place, __m512 numbers)
{
    _mm_storeu_si128((__m128i *)place, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(numbers)));
}

/* `size` numbers as int8, scaled by the largest: what 1 stands for; NaN if one of them is not finite. */
static inline float round_row(const float *row, int64_t size, int8_t *out)
{
    __m512 largest = _mm512_set1_ps(SMALLEST);
    __mmask16 none = 0;
    for (int64_t place = 0; place < size; place += LANES) {
        const __m512 numbers = _mm512_loadu_ps(row + place);
        largest = _mm512_max_ps(largest, _mm512_abs_ps(numbers));
        none |= _mm512_cmp_ps_mask(numbers, numbers, _CMP_UNORD_Q);
    }
    const float bound = _mm512_reduce_max_ps(largest);
    const __m512 factor = _mm512_set1_ps(127.0f / bound);
    for (int64_t place = 0; place < size; place += LANES)
        store_bytes(out + place, _mm512_mul_ps(_mm512_loadu_ps(row + place), factor));
    return none || isinf(bound) ? NAN : bound / 127.0f;
}

/* `size` numbers as 128 * high + low, scaled by the largest: what 1 stands for; NaN if one of them is not finite.
 * excess: 128 times their sum. */
static inline float split_row(const float *row, int64_t size, int8_t *high, int8_t *low, int32_t *excess)
{
    __m512 most = _mm512_set1_ps(SMALLEST), tainted = _mm512_setzero_ps();
    for (int64_t place = 0; place < size; place += LANES) {
        const __m512 numbers = _mm512_loadu_ps(row + place);
        most = _mm512_max_ps(most, _mm512_abs_ps(numbers));
        tainted = _mm512_fmadd_ps(numbers, _mm512_setzero_ps(), tainted);
    }
    const float bound = _mm512_reduce_max_ps(most);
    __m512i sums = _mm512_setzero_si512();
    for (int64_t place = 0; place < size; place += LANES) {
        const __m512 numbers = _mm512_mul_ps(_mm512_loadu_ps(row + place), _mm512_set1_ps(SPLIT / bound));
        const __m512i whole = _mm512_cvtps_epi32(numbers);
        const __m512i upper = _mm512_srai_epi32(_mm512_add_epi32(whole, _mm512_set1_epi32(64)), 7);
        const __m512i lower = _mm512_sub_epi32(whole, _mm512_slli_epi32(upper, 7));
        _mm_storeu_si128((__m128i *)(high + place), _mm512_cvtepi32_epi8(upper));
        _mm_storeu_si128((__m128i *)(low + place), _mm512_cvtepi32_epi8(lower));
        sums = _mm512_add_epi32(sums, whole);
    }
    *excess = 128 * _mm512_reduce_add_epi32(sums);
    return bound / SPLIT + _mm512_reduce_add_ps(tainted);
}

/* Logits in place to log-probabilities, all of them lower by the normalizer that it returns, less plus. count: a multiple
 * of 64. */
static inline float log_softmax(float *logits, int64_t count, float plus)
{
    __m512 most[4], sums[4];
    for (int part = 0; part < 4; part++)
        most[part] = _mm512_set1_ps(-INFINITY), sums[part] = _mm512_setzero_ps();
    for (int64_t place = 0; place < count; place += 64)
        for (int part = 0; part < 4; part++)
            most[part] = _mm512_max_ps(most[part], _mm512_loadu_ps(logits + place + 16 * part));
    const __m512 pair = _mm512_max_ps(most[0], most[1]), other = _mm512_max_ps(most[2], most[3]);
    const float highest = _mm512_reduce_max_ps(_mm512_max_ps(pair, other));
    for (int64_t place = 0; place < count; place += 64)
        for (int part = 0; part < 4; part++) {
            const __m512 x = _mm512_loadu_ps(logits + place + 16 * part);
            sums[part] = _mm512_add_ps(sums[part], exponential(_mm512_sub_ps(x, _mm512_set1_ps(highest))));
        }
    const __m512 sum = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
    const float normalizer = highest + logf(_mm512_reduce_add_ps(sum));
    const __m512 shift = _mm512_set1_ps(normalizer - plus);
    for (int64_t place = 0; place < count; place += 16)
        _mm512_storeu_ps(logits + place, _mm512_sub_ps(_mm512_loadu_ps(logits + place), shift));
    return normalizer;
}

#endif
