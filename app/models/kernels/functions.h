/* exp, sigmoid and tanh of sixteen numbers, and what int8 makes of them: each on its own, whatever stands beside it. */

#ifndef PRECIS_FUNCTIONS_H
#define PRECIS_FUNCTIONS_H

#include <immintrin.h>
#include <stdint.h>

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

/* Sixteen numbers, rounded to int8. */
static inline void store_bytes(int8_t *place, __m512 numbers)
{
    _mm_storeu_si128((__m128i *)place, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(numbers)));
}

#endif
