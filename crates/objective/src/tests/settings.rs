//! Settings that are read, and those that must be refused, with messages that say what to do.

use crate::{AdamW, AdamWConfig, Block, LossConfig, MaskRule, ParameterGroup, Temperature};

fn read(text: &str) -> LossConfig {
    toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn loss_settings_are_read_with_defaults() {
    let default = read("");
    assert_eq!(default, LossConfig::default());
    assert_eq!((default.kind.name(), default.temperature, default.symmetric), ("info-nce", Temperature::Fixed(0.05), false));
    read("kind = \"pairwise\"\ntemperature = 1").validate().unwrap();
    assert_eq!(read("temperature = 0.05").temperature, 0.05.into());
    assert_eq!(read("temperature = { from = 0.1, to = 0.02 }").temperature, Temperature::Linear { from: 0.1, to: 0.02 });
    let learned = Temperature::Learned { learned: 0.07, min: 0.005, learning_rate: 0.001 };
    assert_eq!(read("temperature = { learned = 0.07 }").temperature, learned);
}

/// Every setting there is.
const FULL: &str = r#"
kind = "hcl"
weight = 0.9
beta = 1.5
tau_plus = 0.001
blocks = ["query-query", "positive-positive"]
matryoshka = [32, 64]
matryoshka_weights = [1, 0.5]
matryoshka_normalize = false
temperature = { learned = 0.05, min = 0.01, learning_rate = 0.002 }

[mixing]
hardest = 16
pairs = 8
pairs_from_step = 100

[[mask]]
rule = "student"
margin = 0.2
from_step = 50

[[mask]]
rule = "guide"
margin = 0.05
relative = true
hard = true
synthetic = true

[[term]]
kind = "margin-mse"
weight = 0.75
in_batch = true
teacher_scale = 0.1
temperature = 1

[[term]]
kind = "kl"
teacher_temperature = 2

[[term]]
kind = "lambda-mrr"
cut = 100
"#;

#[test]
fn every_setting_is_read_and_written_back() {
    let config = read(FULL);
    config.validate().unwrap();
    assert_eq!(config.blocks, [Block::QueryQuery, Block::PositivePositive]);
    assert_eq!(config.mask.iter().map(|mask| mask.rule).collect::<Vec<_>>(), [MaskRule::Student, MaskRule::Guide]);
    assert_eq!(
        config.term.iter().map(|term| (term.kind.name(), term.weight)).collect::<Vec<_>>(),
        [("margin-mse", 0.75), ("kl", 1.0), ("lambda-mrr", 1.0)]
    );
    for config in [config, LossConfig::default(), read("temperature = { from = 0.1, to = 0.02 }")] {
        let text = toml::to_string(&config).unwrap();
        assert_eq!(read(&text), config, "{text}");
    }
}

#[test]
fn wrong_loss_settings_are_refused_by_name() {
    let unreadable = [
        (
            "kind = \"tripletz\"",
            "known: info-nce, pairwise, lce, margin-mse, kl, adversarial, lambda-mrr, debiased, hcl, ccr, passage-centric",
        ),
        ("temprature = 1", "temprature"),
        ("[[term]]\nkind = \"kl\"\n[[term.term]]\nkind = \"kl\"", "unknown field `term`"),
        ("[[mask]]\nrule = \"oracle\"", "oracle"),
        ("[[mask]]\nmargin = 0.1", "missing field `rule`"),
        ("[[mask]]\nrule = \"guide\"\nmargn = 0.1", "margn"),
        ("[mixing]\nhard = 1", "hard"),
        ("blocks = [\"passage-passage\"]", "passage-passage"),
        ("temperature = \"cold\"", "{ from = 0.1, to = 0.02 }"),
        ("temperature = { form = 0.1, to = 0.2 }", "unknown field `form`"),
        ("temperature = { from = 0.1 }", "{ from = 0.1, to = 0.02 }"),
        ("temperature = { from = 0.1, to = 0.2, learned = 0.1 }", "{ from = 0.1, to = 0.02 }"),
    ];
    for (text, expected) in unreadable {
        let message = toml::from_str::<LossConfig>(text).unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
    let invalid = [
        ("temperature = 0", "loss.temperature is 0, expected a positive number"),
        ("temperature = -1", "loss.temperature is -1"),
        ("temperature = { from = 0.1, to = 0 }", "loss.temperature.to is 0"),
        ("temperature = { learned = 0.001 }", "loss.temperature.learned is 0.001, expected a number from `min`"),
        ("temperature = { learned = 0.1, learning_rate = 0 }", "loss.temperature.learning_rate is 0"),
        ("weight = -1", "loss.weight is -1"),
        ("kind = \"pairwise\"\nsymmetric = true", "loss.symmetric cannot be used with loss.kind = \"pairwise\""),
        ("beta = 1", "loss.beta cannot be used"),
        ("kind = \"debiased\"\nbeta = 1", "loss.beta cannot be used"),
        ("kind = \"debiased\"\ntau_plus = 1", "loss.tau_plus is 1"),
        ("kind = \"hcl\"\nbeta = -1", "loss.beta is -1"),
        ("kind = \"kl\"\nteacher_temperature = 0", "loss.teacher_temperature is 0"),
        ("kind = \"kl\"\nteacher_scale = 2", "loss.teacher_scale cannot be used"),
        ("kind = \"margin-mse\"\nteacher_scale = 0", "loss.teacher_scale is 0"),
        ("kind = \"lambda-mrr\"\ncut = 0", "loss.cut is 0"),
        ("[[term]]\nkind = \"kl\"\n[[term]]\nkind = \"lce\"\nin_batch = true", "loss.term.1.in_batch cannot be used with loss.term.1.kind"),
        ("[[term]]\nweight = -0.5", "loss.term.0.weight is -0.5"),
        ("[[term]]\ntemperature = 0", "loss.term.0.temperature is 0"),
        ("[[term]]\ntemperature = { learned = 0.1 }", "loss.term.0.temperature cannot be learned"),
        ("[[mask]]\nrule = \"student\"\nmargin = -0.1", "loss.mask.0.margin is -0.1"),
        ("[[mask]]\nrule = \"guide\"\nrelative = true\nmargin = 1.5", "loss.mask.0.margin is 1.5"),
        ("[[mask]]\nrule = \"student\"\nrelative = true", "loss.mask.0.relative cannot be used with rule"),
        ("kind = \"kl\"\n[[mask]]\nrule = \"student\"", "loss.mask has no effect with loss.kind = \"kl\""),
        ("kind = \"lce\"\nblocks = [\"query-query\"]", "loss.blocks has no effect"),
        ("kind = \"lce\"\n[mixing]", "loss.mixing has no effect"),
        ("blocks = [\"query-query\", \"query-query\"]", "loss.blocks.1 stands in the list twice"),
        ("blocks = [\"positive-positive\", \"document-document\"]", "keep one"),
        ("[mixing]\nhardest = 0", "loss.mixing.hardest is 0"),
        ("[mixing]\npairs = 0\nwith_query = 0", "loss.mixing.pairs + with_query is 0"),
        ("matryoshka = [32, 32]", "loss.matryoshka.1 is 32"),
        ("matryoshka = [0]", "loss.matryoshka.0 is 0"),
        ("matryoshka = [32]\nmatryoshka_weights = [1, 2]", "loss.matryoshka_weights has 2 entries and loss.matryoshka 1"),
        ("matryoshka = [32]\nmatryoshka_weights = [0]", "loss.matryoshka_weights.0 is 0"),
    ];
    for (text, expected) in invalid {
        let message = read(text).validate().unwrap_err().to_string();
        assert!(message.contains(expected) && !message.contains('\n'), "{text}: {message}");
    }
    // A term that reads them is enough.
    read("kind = \"kl\"\nblocks = [\"query-query\"]\n[[mask]]\nrule = \"student\"\n[[term]]\nkind = \"info-nce\"").validate().unwrap();
}

#[test]
fn optimizer_settings_out_of_range_are_refused() {
    let group = |rate| vec![ParameterGroup { path: "head".into(), rate, weight_decay: None }];
    let cases = [
        (AdamWConfig { beta_1: 1.0, ..AdamWConfig::default() }, "beta_1 is 1"),
        (AdamWConfig { epsilon: 0.0, ..AdamWConfig::default() }, "epsilon is 0"),
        (AdamWConfig { weight_decay: f64::NAN, ..AdamWConfig::default() }, "weight_decay is NaN"),
        (AdamWConfig { groups: group(-1.0), ..AdamWConfig::default() }, "rate of the group `head` is -1"),
    ];
    for (config, expected) in cases {
        let message = AdamW::new(config).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}
