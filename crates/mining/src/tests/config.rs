//! `[negatives]` as users write it.

use crate::{DrawConfig, NegativesConfig, Schedule, Short, SourceConfig};

#[test]
fn every_part_is_read_and_written_back() {
    let text = r#"
        short = "random"
        [[source]]
        from = "random"
        share = 0.25
        [[source]]
        from = "in-batch"
        [[source]]
        from = "bm25"
        [[source]]
        from = "dense"
        depth = 50
        refresh = "every 500 steps"
        [[source]]
        from = "file"
        path = "mined.jsonl"
        [[filter]]
        rule = "judged"
        [[filter]]
        rule = "identical-text"
        [[filter]]
        rule = "rank-window"
        skip = 10
        until = 40
        order = "before"
        [[filter]]
        rule = "score"
        max = 0.9
        [[filter]]
        rule = "margin"
        relative = 0.05
        [draw]
        rule = "top"
    "#;
    let config: NegativesConfig = toml::from_str(text).unwrap();
    config.validate().unwrap();
    assert_eq!(config.short, Short::Random);
    assert_eq!(config.draw, DrawConfig::Top {});
    assert!(config.in_batch() && config.offers_candidates() && config.remove_judged);
    assert_eq!(config.source[3], SourceConfig::Dense { depth: 50, share: 1.0, refresh: Schedule::EverySteps(500), below_margin: false });
    let written = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<NegativesConfig>(&written).unwrap(), config, "{written}");
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<NegativesConfig>(&json).unwrap(), config);
}

#[test]
fn nothing_written_is_no_source_and_a_uniform_draw() {
    let config: NegativesConfig = toml::from_str("").unwrap();
    assert_eq!(config, NegativesConfig::default());
    assert!(!config.in_batch() && !config.offers_candidates());
    assert_eq!(config.draw, DrawConfig::Uniform {});
    let marker: NegativesConfig = toml::from_str("[[source]]\nfrom = \"in-batch\"").unwrap();
    assert!(marker.in_batch() && !marker.offers_candidates());
}

#[test]
fn unknown_keys_and_words_are_refused() {
    let cases = [
        ("depht = 3", "depht"),
        ("[[source]]\nfrom = \"dense\"\ndepht = 3", "depht"),
        ("[[source]]\nfrom = \"random\"\ndepth = 3", "depth"),
        ("[[source]]\nfrom = \"in-batch\"\nshare = 1.0", "share"),
        ("[[source]]\nfrom = \"sparse\"", "sparse"),
        ("[[source]]\nfrom = \"dense\"\nrefresh = \"sometimes\"", "every N steps"),
        ("[[filter]]\nrule = \"margin\"\nrelativ = 0.1", "relativ"),
        ("[[filter]]\nrule = \"identical-text\"\nmax = 0.1", "max"),
        ("[draw]\nrule = \"best\"", "best"),
        ("short = \"pad\"", "pad"),
    ];
    for (text, named) in cases {
        let message = toml::from_str::<NegativesConfig>(text).unwrap_err().to_string();
        assert!(message.contains(named), "{text}\n{message}");
    }
}

#[test]
fn values_without_sense_are_refused_by_name() {
    let dense = "[[source]]\nfrom = \"dense\"\n";
    let cases = [
        (format!("{dense}depth = 0"), "negatives.source.0.depth: got 0, expected 1 to 1024"),
        (format!("{dense}depth = 1025"), "source.0.depth: got 1025"),
        (format!("{dense}share = 0.0"), "source.0.share: got 0"),
        (format!("{dense}share = inf"), "source.0.share: got inf"),
        ("[[source]]\nfrom = \"bm25\"\nrefresh = \"every epoch\"".into(), "source.0.refresh: got \"every epoch\""),
        ("[[source]]\nfrom = \"in-batch\"\n[[source]]\nfrom = \"in-batch\"".into(), "twice"),
        ("[[filter]]\nrule = \"rank-window\"".into(), "filter.0: got a window without bounds"),
        ("[[filter]]\nrule = \"rank-window\"\nskip = 5\nuntil = 5".into(), "filter.0.until: got 5, expected more than skip"),
        (format!("{dense}depth = 10\n[[filter]]\nrule = \"rank-window\"\nskip = 10"), "filter.0.skip: got 10"),
        (
            format!("{dense}below_margin = true\n[[filter]]\nrule = \"rank-window\"\nskip = 5\norder = \"before\""),
            "filter.0.order: got \"before\"",
        ),
        ("[[filter]]\nrule = \"score\"".into(), "filter.0: got no bounds"),
        ("[[filter]]\nrule = \"score\"\nmin = 0.5\nmax = 0.4".into(), "filter.0.min: got 0.5"),
        ("[[filter]]\nrule = \"margin\"".into(), "filter.0: got no margin"),
        ("[[filter]]\nrule = \"margin\"\nrelative = -0.1".into(), "filter.0.relative: got -0.1, expected a number from 0 up"),
        ("[[filter]]\nrule = \"margin\"\nabsolute = nan".into(), "filter.0.absolute: got NaN"),
    ];
    for (text, part) in cases {
        let config: NegativesConfig = toml::from_str(&text).unwrap();
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(part), "{text}\n{message}");
    }
}
