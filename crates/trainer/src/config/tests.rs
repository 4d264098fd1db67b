//! Configurations as written: what is merged, what is refused and how that is said.

use super::*;

const IN_BATCH: &str = "[[negatives.source]]\nfrom = \"in-batch\"\n";

fn message(text: &str, set: &[(&str, &str)]) -> String {
    let set: Vec<_> = set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    merge("my.toml", text, &set).expect_err("this configuration is wrong").to_string()
}

#[test]
fn unknown_keys_name_file_line_and_the_nearest_key() {
    let error = message("[train]\nseed = 1\nlerning_rate = 0.1\n", &[]);
    assert!(error.contains("my.toml, line 3"), "{error}");
    assert!(error.contains("`lerning_rate`") && error.contains("`learning_rate`"), "{error}");
}

#[test]
fn a_wrong_set_is_named() {
    let error = message(IN_BATCH, &[("train.stepz", "3")]);
    assert!(error.starts_with("--set train.stepz=3") && error.contains("`steps`"), "{error}");
    let error = message(IN_BATCH, &[("train.steps", "many")]);
    assert!(error.starts_with("--set train.steps=many"), "{error}");
}

#[test]
fn set_reaches_sections_lists_and_strings() {
    let set = [("train.steps", "7"), ("negatives.source.0.from", "in-batch"), ("encoder.model", "some/model")];
    let set: Vec<_> = set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let config = merge("my.toml", IN_BATCH, &set).expect("a valid configuration");
    assert_eq!(config.train.steps, Some(7));
    assert_eq!(config.encoder.model, "some/model");
    let set = [split_set("encoder.query_prompt=query: ").unwrap(), split_set(" train.steps = 7 ").unwrap()];
    let config = merge("my.toml", IN_BATCH, &set).expect("a valid configuration");
    assert_eq!((config.encoder.query_prompt.as_deref(), config.train.steps), (Some("query: "), Some(7)));
}

#[test]
fn the_resolved_form_reads_back() {
    let config = merge("my.toml", IN_BATCH, &[]).expect("a valid configuration");
    let text = toml::to_string(&config).expect("it serialises");
    let again = merge("saved", &text, &[]).expect("the saved form is valid");
    assert_eq!(toml::to_string(&again).expect("it serialises"), text);
}

#[test]
fn a_configuration_may_say_only_what_it_changes_about_a_recipe() {
    let text = "recipe = \"simans\"\n[train]\nsteps = 7\n[negatives.draw]\na = 2.0\n";
    let config = merge("my.toml", text, &[("batch.queries".to_owned(), "8".to_owned())]).expect("a valid configuration");
    let base = merge("simans", crate::recipes::find("simans").unwrap().text, &[]).unwrap();
    assert_eq!((config.train.steps, config.batch.queries, &config.recipe), (Some(7), 8, &None));
    assert_eq!(config.negatives.source, base.negatives.source);
    let expected = mining::DrawConfig::Simans { a: 2.0, b: 0.0, temperature: None, absolute: false };
    assert_eq!(config.negatives.draw, expected);
    // Another rule brings its own keys, and a list takes the place of the recipe's.
    let text = "recipe = \"simans\"\n[negatives]\ndraw = { rule = \"top\" }\nsource = [{ from = \"random\" }]\n";
    let config = merge("my.toml", text, &[]).expect("a valid configuration");
    assert_eq!((config.negatives.draw, config.negatives.source.len()), (mining::DrawConfig::Top {}, 1));
    assert!(message("recipe = \"anse\"\n", &[]).contains("`ance`"));
    assert!(message(IN_BATCH, &[("recipe", "ance")]).contains("--set recipe"));
    let error = message("recipe = \"simans\"\n[train]\nlerning_rate = 0.1\n", &[]);
    assert!(error.contains("my.toml, line 3") && error.contains("`learning_rate`"), "{error}");
}

#[test]
fn what_nothing_reads_is_named_and_what_cannot_be_is_refused() {
    for (set, part) in [(("data.decision_policy", "remove"), "data.decisions"), (("data.hold_out", "1"), "data.hold_out")] {
        let error = message(IN_BATCH, &[set]);
        assert!(error.contains(part), "{error}");
    }
    let named = [("teacher.model", "some/model"), ("teacher.in_batch", "start"), ("guide.model", "some/model"), ("reranker.steps", "10")];
    for (key, value) in named {
        let config = merge("my.toml", IN_BATCH, &[(key.to_owned(), value.to_owned())]).expect("a valid configuration");
        let doubts = config.doubts().unwrap();
        assert!(doubts.len() == 1 && doubts[0].contains(key.split('.').next().unwrap()), "{doubts:?}");
    }
}

#[test]
fn a_round_changes_what_is_its_own_and_nothing_else() {
    for key in ["encoder.model = \"x\"", "train.seed = 3", "train.steps = 5", "train.precision = \"mixed\""] {
        let error = message(&format!("{IN_BATCH}[[round]]\n[[round]]\n{key}\n"), &[]);
        let key = key.split(' ').next().unwrap();
        assert!(error.contains("[[round]] number 2") && error.contains(&format!("cannot change `{key}`")), "{error}");
    }
    let text = format!("{IN_BATCH}[[round]]\n[[round]]\ntrain.warmup = 0.5\nencoder.documents = \"momentum\"\n");
    let second = merge("my.toml", &text, &[]).expect("a valid configuration").of_round(1).expect("a valid round");
    assert_eq!((second.train.warmup, second.encoder.documents), (0.5, DocumentEncoder::Momentum));
    let text = format!("{IN_BATCH}[[round]]\nshare = 3\n[[round]]\nshare = 0.5\n[[round]]\n");
    let config = merge("my.toml", &text, &[]).expect("a valid configuration");
    assert_eq!([0, 1, 2].map(|round| config.share_of_round(round)), [3.0, 0.5, 1.0]);
    for wrong in ["0", "-1", "nan", "\"x\""] {
        let error = message(&format!("{IN_BATCH}[[round]]\n[[round]]\nshare = {wrong}\n"), &[]);
        assert!(error.contains("[[round]] number 2: share must be"), "{error}");
    }
}

#[test]
fn a_round_that_trains_both_sides_cannot_go_on_from_frozen_documents() {
    let rounds = |second: &str| format!("{IN_BATCH}[[round]]\nencoder.documents = \"frozen\"\n[[round]]\n{second}\n");
    for documents in ["shared", "momentum"] {
        let second = format!("train.restart = false\nencoder.documents = \"{documents}\"");
        let error = message(&rounds(&second), &[]);
        assert!(error.contains("goes on with one for both") && error.contains("train.restart = true"), "{error}");
    }
    for second in ["train.restart = false\nencoder.documents = \"frozen\"", "encoder.documents = \"shared\""] {
        merge("my.toml", &rounds(second), &[]).expect("a valid configuration");
    }
}

#[test]
fn parts_of_which_one_would_do_nothing_are_refused() {
    let per_step = |loss: &str| format!("encoder.documents = \"frozen\"\n{loss}\n[[negatives.source]]\nfrom = \"per-step\"\n");
    let mrr = per_step("loss.kind = \"lambda-mrr\"");
    merge("my.toml", &mrr, &[]).expect("a valid configuration");
    let distilled = per_step("loss.kind = \"kl\"\ndata.teacher = \"scores.tsv\"");
    for (text, set, part) in [
        (IN_BATCH, &[("loss.kind", "lce")][..], "batch.negatives is 0"),
        (&mrr, &[("batch.share_negatives", "false")], "batch.share_negatives = false"),
        (
            IN_BATCH,
            &[("batch.compose", "topics"), ("batch.queries", "4"), ("batch.topics.draw", "{rule=\"uniform\",topics=5}")],
            "1 to batch.queries",
        ),
        (&distilled, &[], "no file has scores of"),
    ] {
        let error = message(text, set);
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn given_scores_take_the_place_of_a_reranker_that_only_labels() {
    let text = "batch.negatives = 1\n[loss]\nkind = \"kl\"\n[teacher]\nmodel = \"reranker\"\n[reranker]\nsteps = 5\n[train]\naugment = { above = 0.9 }\n[[negatives.source]]\nfrom = \"random\"\n";
    let asked = |set: &[(&str, &str)]| {
        let set: Vec<_> = set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let config = merge("my.toml", text, &set).expect("a valid configuration");
        (config.asks_reranker(), config.is_taught_by_reranker())
    };
    assert_eq!(asked(&[]), (true, true));
    assert_eq!(asked(&[("data.teacher", "scores.tsv")]), (true, false));
}

#[test]
fn a_run_without_any_negative_is_refused() {
    assert!(message("[batch]\nnegatives = 0\n", &[]).contains("nothing to contrast with"));
    assert!(message("[batch]\nnegatives = 3\n[[negatives.source]]\nfrom = \"in-batch\"\n", &[]).contains("offers any"));
}
