// Any channel count, any number of points, any value type; sums in double for double, else in float.
// Included by cpu_isa.cpp in its namespace.
#pragma once

#include "footprint.h"

struct Task {
  int64_t n, h, first, last;  // queries [first, last)
};

template <class T>
void forward_generic(const Problem& p, const Task& task, typename Sum<T>::type* sum) {
  using A = typename Sum<T>::type;
  const int64_t stride = p.H * p.D, points = p.L * p.P;
  const T* tokens = (const T*)p.value + (task.n * p.S * p.H + task.h) * p.D;
  for (int64_t q = task.first; q < task.last; ++q) {
    const int64_t row = (task.n * p.Q + q) * p.H + task.h;
    const A *loc = (const A*)p.loc + row * points * 2, *attn = (const A*)p.attn + row * points;
    for (int64_t c = 0; c < p.D; ++c) sum[c] = 0;
    int start = 0;
    for (int64_t level = 0; level < p.L; ++level) {
      const int h = int(p.shapes[2 * level]), w = int(p.shapes[2 * level + 1]);
      for (int64_t i = level * p.P; i < (level + 1) * p.P; ++i) {
        const Footprint<A> f = footprint(loc[2 * i], loc[2 * i + 1], w, h, start);
        if (!f.in) continue;
        for (int k = 0; k < 4; ++k) {
          const T* token = tokens + f.token[k] * stride;
          const A share = attn[i] * f.weight[k];
          for (int64_t c = 0; c < p.D; ++c) sum[c] += share * widen(token[c]);
        }
      }
      start += h * w;
    }
    store_row(sum, (T*)p.out + row * p.D, p.D);
  }
}

// grads [S, stride between tokens] of this head in the type of the sums, zero at the beginning; g: a row of scratch
template <class T>
void backward_generic(const Problem& p, const Task& task, typename Sum<T>::type* grads, int64_t grad_stride,
                      typename Sum<T>::type* g) {
  using A = typename Sum<T>::type;
  const int64_t stride = p.H * p.D, points = p.L * p.P;
  const T* tokens = (const T*)p.value + (task.n * p.S * p.H + task.h) * p.D;
  for (int64_t q = task.first; q < task.last; ++q) {
    const int64_t row = (task.n * p.Q + q) * p.H + task.h;
    const A *loc = (const A*)p.loc + row * points * 2, *attn = (const A*)p.attn + row * points;
    A *grad_loc = (A*)p.grad_loc + row * points * 2, *grad_attn = (A*)p.grad_attn + row * points;
    load_row((const T*)p.grad_out + row * p.D, g, p.D);
    int start = 0;
    for (int64_t level = 0; level < p.L; ++level) {
      const int h = int(p.shapes[2 * level]), w = int(p.shapes[2 * level + 1]);
      for (int64_t i = level * p.P; i < (level + 1) * p.P; ++i) {
        const Footprint<A> f = footprint(loc[2 * i], loc[2 * i + 1], w, h, start);
        A dot[4] = {0, 0, 0, 0};
        for (int k = 0; k < 4; ++k) {
          if (!f.valid[k]) continue;
          const T* token = tokens + f.token[k] * stride;
          A* grad = grads + f.token[k] * grad_stride;
          const A share = attn[i] * f.weight[k];
          A sum = 0;
          for (int64_t c = 0; c < p.D; ++c) {
            sum += g[c] * widen(token[c]);
            grad[c] += share * g[c];
          }
          dot[k] = sum;
        }
        const A down = (1 - f.fy) * (dot[1] - dot[0]) + f.fy * (dot[3] - dot[2]);
        const A across = (1 - f.fx) * (dot[2] - dot[0]) + f.fx * (dot[3] - dot[1]);
        grad_loc[2 * i] = f.in ? attn[i] * A(w) * down : A(0);
        grad_loc[2 * i + 1] = f.in ? attn[i] * A(h) * across : A(0);
        grad_attn[i] = f.weight[0] * dot[0] + f.weight[1] * dot[1] + f.weight[2] * dot[2] + f.weight[3] * dot[3];
      }
      start += h * w;
    }
  }
}
