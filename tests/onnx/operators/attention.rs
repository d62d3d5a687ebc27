//! Attention-23 and -24 by `cross_attention`, its optional scores by `linear` and `attention_map`.

use std::ops::Range;

use fusebench::kernel::Elem;
use ndarray::{Array2, Array4, ArrayD, ArrayView1, Axis, Ix4, IxDyn, concatenate, s};

use super::project::linear;
use super::{Checked, Outcome, checked, flat, joined, storage};
use crate::case::Case;
use crate::common::lab::{Ask, Element, Lab, Run};
use crate::outside::Outside;
use crate::proto::{Array, Kind};

/// One case with its heads apart: `[batch, position, head, width]`.
struct Attention {
    q: Array4<f64>,
    k: Array4<f64>,
    v: Array4<f64>,
    scale: f32,
    storage: Elem,
    lengths: Vec<usize>,
    /// Query i sees keys up to i + reach.
    reach: usize,
    /// Added to the scaled scores of `[batch, head, query, key]`.
    bias: Option<Array4<f64>>,
    /// Which key of which query a mask hides: `[batch, head, query, key]`.
    hidden: Option<Array4<bool>>,
}

pub fn attention(lab: &Lab, case: &Case) -> Outcome {
    if case.float("softcap", 0.0) != 0.0 {
        return Err(Outside::Softcap);
    }
    let problem = Attention::of(case);
    let mut all: Vec<Checked> = Vec::new();
    for run in problem.answers(lab) {
        let answer = problem.in_layout(case, &run);
        all.push(checked("cross_attention", &run, 0, answer));
    }
    for (position, given) in [(1, &problem.k), (2, &problem.v)] {
        if case.output(position).is_some() {
            let present = given.view().permuted_axes([0, 2, 1, 3]).to_owned().into_dyn();
            let elements = present.mapv(Element::given);
            all.push(Checked { by: "host".to_owned(), output: position, elements });
        }
    }
    if case.output(3).is_some() {
        all.extend(problem.scores(lab, case));
    }
    Ok(all)
}

/// `[batch, position, head, width]` of a tensor with the heads in its second axis or in its last.
fn heads_apart(array: &Array, heads: i64) -> Array4<f64> {
    let (values, dims) = (&array.values, array.values.shape());
    if let [b, t, all] = *dims {
        let heads = heads as usize;
        let whole = flat(values.view());
        return Array4::from_shape_vec((b, t, heads, all / heads), whole).expect("its size");
    }
    let whole = values.view().into_dimensionality::<Ix4>().expect("four axes");
    whole.permuted_axes([0, 2, 1, 3]).as_standard_layout().into_owned()
}

impl Attention {
    fn of(case: &Case) -> Self {
        let heads = [case.int("q_num_heads", 0), case.int("kv_num_heads", 0)];
        let q = heads_apart(case.needed(0), heads[0]);
        let with_past = |at: usize, past: usize| {
            let new = heads_apart(case.needed(at), heads[1]);
            match case.input(past) {
                Some(past) => concatenate![Axis(1), heads_apart(past, 0), new],
                None => new,
            }
        };
        let (k, v) = (with_past(1, 4), with_past(2, 5));
        let (b, queries, h, d) = q.dim();
        let keys = k.dim().1;
        let past = case.input(4).map_or(0, |past| past.values.shape()[2]);
        let lengths = match case.input(6) {
            Some(lengths) => lengths.values.iter().map(|&len| len as usize).collect(),
            None => vec![keys; b],
        };
        let mask = case.input(3).map(|mask| (mask.kind, whole_mask(mask, [b, h, queries, keys])));
        let (bias, hidden) = match mask {
            Some((Kind::BOOL, mask)) => (None, Some(mask.mapv(|seen| seen == 0.0))),
            Some((_, mask)) => {
                let hidden = mask.mapv(|bias| bias == f64::NEG_INFINITY);
                let bias = mask.mapv(|bias| if bias.is_finite() { bias } else { 0.0 });
                (Some(bias), hidden.iter().any(|&hidden| hidden).then_some(hidden))
            }
            None => (None, None),
        };
        Attention {
            scale: case.float("scale", (d as f32).sqrt().recip()),
            storage: storage(case.needed(0)),
            reach: if case.int("is_causal", 0) == 1 { past } else { keys },
            q,
            k,
            v,
            lengths,
            bias,
            hidden,
        }
    }

    /// Queries and keys whose products are the scores with the bias. Every query has two widths of
    /// its own, one where it is 1, and the keys have there what is added to their score; the second
    /// one is for what rounding leaves over. Biases must be those of a key head's every head.
    fn with_bias(&self) -> (Array4<f64>, Array4<f64>) {
        let Some(bias) = &self.bias else { return (self.q.clone(), self.k.clone()) };
        let ((b, queries, h, _), (_, keys, g, _)) = (self.q.dim(), self.k.dim());
        let own = Array4::from_shape_fn((b, queries, h, 2 * queries), |(_, query, _, i)| {
            f64::from(u8::from(i / 2 == query))
        });
        let added = Array4::from_shape_fn((b, keys, g, 2 * queries), |(b, key, head, i)| {
            let of = |head: usize| bias[[b, head, i / 2, key]] / f64::from(self.scale);
            let first = head * (h / g);
            assert!((first..first + h / g).all(|head| of(head) == of(first)), "a bias by head");
            let rounded = f64::from(self.storage.round(of(first) as f32));
            if i % 2 == 0 { rounded } else { of(first) - rounded }
        });
        (concatenate![Axis(3), self.q, own], concatenate![Axis(3), self.k, added])
    }

    /// `o[batch, query, head, width]` by every strategy. One run does it, but for masks that
    /// differ between batches or heads.
    fn answers(&self, lab: &Lab) -> Vec<Run> {
        let (b, _, h, _) = self.q.dim();
        let differs = |mask: &Array4<bool>| {
            let first = mask.slice(s![0, 0, .., ..]);
            mask.outer_iter().any(|batch| batch.outer_iter().any(|head| head != first))
        };
        if !self.hidden.as_ref().is_some_and(differs) {
            return self.part(lab, 0..b, 0..h);
        }
        let each = (0..b).flat_map(|b| (0..h).map(move |h| (b, h)));
        let parts = each.map(|(b, h)| self.part(lab, b..b + 1, h..h + 1)).collect();
        self.interleaved(joined(parts))
    }

    /// Results of one batch and head after the other, as those of all of them in one run.
    fn interleaved(&self, runs: Vec<Run>) -> Vec<Run> {
        let ((b, queries, h, _), e) = (self.q.dim(), self.v.dim().3);
        let turn = |mut run: Run| {
            let by_head = run.array(0, &[b, h, queries, e]);
            let turned = by_head.view().permuted_axes(IxDyn(&[0, 2, 1, 3]));
            run.outputs[0] = turned.iter().copied().collect();
            run
        };
        runs.into_iter().map(turn).collect()
    }

    /// Some batches, and heads that are all or one.
    fn part(&self, lab: &Lab, batches: Range<usize>, heads: Range<usize>) -> Vec<Run> {
        let per_key = self.q.dim().2 / self.k.dim().2;
        let key_heads = heads.start / per_key..heads.end.div_ceil(per_key);
        let (q, k) = self.with_bias();
        let q = q.slice(s![batches.clone(), .., heads.clone(), ..]);
        let k = k.slice(s![batches.clone(), .., key_heads.clone(), ..]);
        let v = self.v.slice(s![batches.clone(), .., key_heads, ..]);
        let ((b, queries, h, d), (_, keys, g, e)) = (q.dim(), v.dim());
        let axes = [("b", b), ("h", h), ("g", g), ("q", queries), ("k", keys), ("d", d), ("e", e)];
        let lengths = self.lengths[batches.clone()].iter().map(|&len| len as f64);
        let ask = Ask::new("attend/cross_attention", self.storage, &axes)
            .tensor("q", q.iter().copied())
            .tensor("k", k.iter().copied())
            .tensor("v", v.iter().copied())
            .tensor("len", lengths)
            .size("reach", self.reach)
            .real("scale", self.scale);
        let Some(hidden) = &self.hidden else { return lab.run(&ask) };
        let hidden = hidden.slice(s![batches.start, heads.start, .., ..]);
        let word = |row: ArrayView1<bool>, first: usize| {
            let bits = row.iter().skip(first).take(32).enumerate();
            bits.fold(0_u32, |word, (bit, &hidden)| word | u32::from(!hidden) << bit)
        };
        let words = hidden.outer_iter().flat_map(|row| {
            (0..keys).step_by(32).map(move |first| f64::from(word(row, first))).collect::<Vec<_>>()
        });
        let words: Vec<f64> = words.collect();
        lab.run(&ask.tag("bits").tensor("mask", words))
    }

    /// The answer in the layout of the queries.
    fn in_layout(&self, case: &Case, run: &Run) -> ArrayD<Element> {
        let ((b, queries, h, _), e) = (self.q.dim(), self.v.dim().3);
        if case.needed(0).values.ndim() == 3 {
            return run.array(0, &[b, queries, h * e]);
        }
        let answer = run.array(0, &[b, queries, h, e]);
        answer.permuted_axes(IxDyn(&[0, 2, 1, 3])).as_standard_layout().into_owned()
    }

    /// The optional fourth output, at the stage that the case names.
    fn scores(&self, lab: &Lab, case: &Case) -> Vec<Checked> {
        let (b, queries, h, _) = self.q.dim();
        let dims = [b, h, queries, self.k.dim().1];
        match case.int("qk_matmul_output_mode", 0) {
            // Softcapping, which mode 1 would come after, is left out here.
            0 | 1 => self.products(lab, &self.q, &self.k, &dims),
            2 => {
                let (q, k) = self.with_bias();
                let mut all = self.products(lab, &q, &k, &dims);
                // No kernel stores an infinity: what is hidden is left out by position.
                for checked in &mut all {
                    for (at, element) in checked.elements.indexed_iter_mut() {
                        if self.is_hidden([at[0], at[1], at[2], at[3]]) {
                            *element = Element::given(f64::NEG_INFINITY);
                        }
                    }
                }
                all
            }
            _ => self.weights(lab, &dims),
        }
    }

    fn is_hidden(&self, [b, head, query, key]: [usize; 4]) -> bool {
        let masked = self.hidden.as_ref().is_some_and(|hidden| hidden[[b, head, query, key]]);
        masked || key > query + self.reach || key >= self.lengths[b]
    }

    /// scale · q · k of every batch and head by `linear`.
    fn products(
        &self,
        lab: &Lab,
        q: &Array4<f64>,
        k: &Array4<f64>,
        dims: &[usize],
    ) -> Vec<Checked> {
        let per_key = q.dim().2 / k.dim().2;
        let each = (0..dims[0]).flat_map(|b| (0..dims[1]).map(move |head| (b, head)));
        let parts = each.map(|(b, head)| {
            let x: Array2<f64> = &q.slice(s![b, .., head, ..]) * f64::from(self.scale);
            let w = k.slice(s![b, .., head / per_key, ..]).as_standard_layout().into_owned();
            lab.run(&linear(&x, &w, &vec![0.0; w.nrows()], self.storage))
        });
        super::at("linear", &joined(parts.collect()), 3, dims)
    }

    /// The weights of the keys by `attention_map`, whose queries see all of a length.
    fn weights(&self, lab: &Lab, dims: &[usize]) -> Vec<Checked> {
        let (q, k) = self.with_bias();
        let ((b, queries, h, d), keys) = (q.dim(), k.dim().1);
        assert!(self.hidden.is_none() && self.reach >= keys, "a mask that is no length");
        let axes = [("b", b), ("h", h), ("q", queries), ("k", keys), ("d", d)];
        let ask = Ask::new("explain/attention_map", self.storage, &axes)
            .tensor("q", q.iter().copied())
            .tensor("k", k.iter().copied())
            .tensor("len", self.lengths.iter().map(|&len| len as f64))
            .real("scale", self.scale);
        super::at("attention_map", &lab.run(&ask), 3, dims)
    }
}

/// A mask for every batch, head and query, and keys that it does not reach hidden.
fn whole_mask(mask: &Array, dims: [usize; 4]) -> Array4<f64> {
    let mut values = mask.values.clone();
    let (last, keys) = (values.ndim() - 1, dims[3]);
    let missing = keys - values.shape()[last];
    if missing > 0 {
        let mut more = values.shape().to_vec();
        more[last] = missing;
        let none = if mask.kind == Kind::BOOL { 0.0 } else { f64::NEG_INFINITY };
        let more = ArrayD::from_elem(IxDyn(&more), none);
        values = concatenate![Axis(last), values, more];
    }
    let whole = values.broadcast(IxDyn(&dims)).expect("a mask can be broadcast").to_owned();
    whole.into_dimensionality::<Ix4>().expect("four axes")
}
