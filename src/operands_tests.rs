use super::*;

const LINEAR: Operands = Operands::of(&[
    Operand::new("x", "m k"),
    Operand::new("w", "n k").drawn_as("weights"),
    Operand::new("b", "n"),
]);
const ATTEND: Operands = Operands::of(&[
    Operand::new("q", "b q h d"),
    Operand::new("k", "b k g d"),
    Operand::new("v", "b k g e"),
])
.implying(&[("g", "h"), ("e", "d")], &["b", "h", "g", "q", "k", "d", "e"])
.refusing(|shape| (shape["q"] > 9).then(|| "too many queries".to_owned()));
const ODD: Operands = Operands::of(&[
    Operand::new("v", "2^m c"),
    Operand::new("ends", "2 c"),
    Operand::new("x", "b u+v+w"),
    Operand::new("w", "c u*v"),
    Operand::new("p", "b").with_option("placed"),
])
.without(&["silent"]);

fn fit(operands: &Operands, shape: &Shape, given: &[(&str, &[usize])]) -> Result<String, Misfit> {
    let found: Vec<Sized> = given
        .iter()
        .map(|&(name, dims)| (operands.find("kernel", name).expect("declared"), dims))
        .collect();
    operands.fit("kernel", shape, &found).map(|shape| shape.to_string())
}

#[test]
fn tensors_give_the_axes_and_the_preset_the_rest() {
    let shape = Shape::new(&[("m", 1), ("n", 2), ("k", 3)]).tag("gelu");
    let both: &[(&str, &[usize])] = &[("x", &[5, 7]), ("w", &[9, 7])];
    assert_eq!(fit(&LINEAR, &shape, both).expect("it fits"), "m5n9k7_gelu");
    assert_eq!(fit(&LINEAR, &shape, &both[1..]).expect("it fits"), "m1n9k7_gelu");
    assert_eq!(LINEAR.find("linear", "w").expect("declared").tensor, "weights");
}

#[test]
fn two_sizes_of_an_axis_name_both_tensors() {
    let shape = Shape::new(&[("m", 1), ("n", 2), ("k", 3)]);
    let why = fit(&LINEAR, &shape, &[("x", &[5, 7]), ("w", &[7, 9])]).expect_err("7 and 9");
    assert_eq!(why.problem, "--input x and --input w do not fit");
    let both = "k of kernel is 7 in x (dimension 2 of m × k) and 9 in w (dimension 2 of n × k)";
    assert_eq!(why.expected, both);
    let why = fit(&LINEAR, &shape, &[("x", &[5, 7, 1])]).expect_err("three dimensions");
    assert!(why.problem.contains("3 dimensions: 5 × 7 × 1"), "{why}");
    let why = LINEAR.find("linear", "q").expect_err("no such input");
    assert!(why.expected.contains("x (m × k), w (n × k), b (n)"), "{why}");
    let why = Operands::none("it has none").find("noise", "x").expect_err("none");
    assert!(why.expected.ends_with("it has none"), "{why}");
}

#[test]
fn implied_axes_appear_where_they_differ() {
    let plain = Shape::new(&[("b", 1), ("h", 2), ("q", 3), ("k", 4), ("d", 8)]);
    let q: (&str, &[usize]) = ("q", &[1, 5, 4, 16]);
    let same: &[(&str, &[usize])] = &[q, ("k", &[1, 6, 4, 16]), ("v", &[1, 6, 4, 16])];
    assert_eq!(fit(&ATTEND, &plain, same).expect("it fits"), "b1h4q5k6d16");
    let less: &[(&str, &[usize])] = &[q, ("k", &[1, 6, 2, 16]), ("v", &[1, 6, 2, 12])];
    assert_eq!(fit(&ATTEND, &plain, less).expect("it fits"), "b1h4g2q5k6d16e12");
    // Without keys they follow the queries.
    assert_eq!(fit(&ATTEND, &plain, &[q]).expect("it fits"), "b1h4q5k4d16");
    let why = fit(&ATTEND, &plain, &[("q", &[1, 10, 4, 16])]).expect_err("ten queries");
    assert!(why.problem.contains("too many queries"), "{why}");
}

#[test]
fn what_gives_no_axis_has_to_fit() {
    let shape = Shape::new(&[("b", 2), ("m", 3), ("c", 5), ("u", 4), ("v", 6)]);
    assert_eq!(fit(&ODD, &shape, &[("v", &[16, 7])]).expect("16 = 2^4"), "b2m4c7u4v6");
    assert_eq!(fit(&ODD, &shape, &[("x", &[9, 10])]).expect("4 + 6"), "b9m3c5u4v6");
    for (name, dims, says) in [
        ("v", [12, 7], "not 2^m"),
        ("ends", [3, 5], "not 2 "),
        ("x", [9, 11], "not u+v+w"),
        ("w", [5, 25], "not u*v"),
    ] {
        let why = fit(&ODD, &shape, &[(name, &dims)]).expect_err(name);
        assert!(why.problem.contains(says), "{why}");
    }
    let place = ODD.find("kernel", "p").expect("declared");
    assert!(ODD.suit(Some("placed"), &[place]) && !ODD.suit(None, &[place]));
    assert!(ODD.suit(None, &[]) && !ODD.suit(Some("silent"), &[]));
}
