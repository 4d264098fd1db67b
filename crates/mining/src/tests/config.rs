//! `[negatives]` as users write it.

use crate::{
    DecayConfig, DiverseBy, DrawConfig, FilterConfig, Line, Merge, Model, NegativesConfig, Ramp, Schedule, ScoredBy, Short, SourceConfig,
    SourceKind,
};

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
    let dense = SourceKind::Dense { depth: 50, refresh: Schedule::EverySteps(500), model: Model::Current, below_margin: false };
    assert_eq!(config.source[3], SourceConfig::new(dense));
    assert_eq!(config.source[0], SourceConfig { share: Some(Ramp::Fixed(0.25)), ..SourceConfig::new(SourceKind::Random {}) });
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
        ("[[source]]\nfrom = \"bm25\"\nshare = { from = 0.5, until = 1.0 }", "{ from = NUMBER, to = NUMBER }"),
        ("[[source]]\nfrom = \"queue\"", "size"),
        ("[[source]]\nfrom = \"generated\"", "path"),
        ("[draw]\nrule = \"simans\"\ntau = 0.1", "tau"),
        ("[draw]\nrule = \"diverse\"\nby = \"words\"", "words"),
        ("[[filter]]\nrule = \"sieve\"\nmax = 0.1", "max"),
        ("short = { fill = \"beyond\", from = 3 }", "beyond"),
        ("merge = \"all\"", "all"),
        ("[decay]\nfactr = 1.2", "factr"),
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
        (
            "[[source]]\nfrom = \"generated\"\npath = \"x\"\nrefresh = \"rolling 9 steps\"".into(),
            "source.0.refresh: got \"rolling 9 steps\"",
        ),
        ("[[source]]\nfrom = \"in-batch\"\n[[source]]\nfrom = \"in-batch\"".into(), "twice"),
        ("[[source]]\nfrom = \"in-batch\"\nshare = 1.0".into(), "source.0.share: got 1"),
        ("[[source]]\nfrom = \"random\"\npool = 3".into(), "source.0.pool: got 3"),
        (format!("{dense}pool = {{ from = 20, to = 0 }}"), "source.0.pool: got { from = 20, to = 0 }"),
        (format!("{dense}share = {{ from = 0.0, to = 0.0 }}"), "source.0.share"),
        (format!("{dense}model = \"start\"\nrefresh = \"every epoch\""), "source.0.refresh: got \"every epoch\""),
        (format!("{dense}model = \"previous-round\"\nrefresh = \"rolling 10 steps\""), "source.0.refresh: got \"rolling 10"),
        ("[[source]]\nfrom = \"queue\"\nsize = 0".into(), "source.0.size: got 0"),
        ("[[source]]\nfrom = \"per-step\"\ndepth = 2000".into(), "source.0.depth: got 2000"),
        ("slices = 0".into(), "negatives.slices: got 0"),
        ("[decay]\nfactor = 0.9".into(), "decay.factor: got 0.9"),
        ("[draw]\nrule = \"simans\"\ntemperature = 0.0".into(), "draw.temperature: got 0"),
        ("[draw]\nrule = \"rank-curve\"\ngain_k = 1.0".into(), "draw.gain_k: got 1"),
        ("[draw]\nrule = \"margin-bins\"\nbins = 0".into(), "draw.bins: got 0"),
        ("[draw]\nrule = \"window\"\nsize = 0".into(), "draw.size: got 0"),
        ("[draw]\nrule = \"diverse\"\nvisits = 0".into(), "draw.visits: got 0"),
        (format!("{dense}below_margin = true\n[draw]\nrule = \"rank-curve\""), "draw.rule: got \"rank-curve\""),
        (format!("merge = \"union\"\n{dense}refresh = \"on decay every 5 steps\""), "negatives.merge: got \"union\""),
        (format!("{dense}pool = 5\nrefresh = \"on decay every 5 steps\""), "source.0.pool"),
        (format!("{dense}refresh = \"on decay every 5 steps\"\n[draw]\nrule = \"top\""), "negatives.draw.rule: got \"top\""),
        (format!("{dense}refresh = \"on decay every 5 steps\"\ndraw = {{ rule = \"top\" }}"), "negatives.source.0.draw.rule: got \"top\""),
        (format!("merge = \"union\"\n{dense}[draw]\nrule = \"diverse\""), "negatives.merge: got \"union\""),
        (format!("merge = \"union\"\n{dense}draw = {{ rule = \"top\" }}"), "source.0.draw draws from the list of one source"),
        (format!("{dense}draw = {{ rule = \"simans\", a = -1.0 }}"), "negatives.source.0.draw.a: got -1"),
        (format!("{dense}draw = {{ rule = \"rank-curve\", split = \"dev\" }}"), "negatives.source.0.draw.rule: got \"rank-curve\""),
        ("[[source]]\nfrom = \"random\"\ndraw = { rule = \"top\" }".to_owned(), "negatives.source.0.draw: got"),
        ("short = { fill = \"beyond\", from = 9, until = 8 }".into(), "negatives.short: got from 9 until 8"),
        (format!("short = {{ fill = \"beyond\", from = 51, until = 80 }}\n{dense}depth = 50"), "short.from: got 51, expected at most"),
        ("[[filter]]\nrule = \"teacher\"".into(), "filter.0: got no bounds"),
        ("[[filter]]\nrule = \"teacher\"\nmax = 0.6\nat_least = 4".into(), "filter.0.at_least"),
        ("[[filter]]\nrule = \"angle\"\ndegrees = 0.0".into(), "filter.0.degrees: got 0"),
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

#[test]
fn every_setting_of_the_algebra_is_read_and_written_back() {
    let text = r#"
        short = { fill = "beyond", from = 51, until = 1000 }
        slices = 4
        [decay]
        factor = 1.2
        [[source]]
        from = "dense"
        depth = 1000
        model = "previous-round"
        share = { from = 0.25, to = 1 }
        pool = { from = 200, to = 20 }
        [[source]]
        from = "dense"
        model = "start"
        [[source]]
        from = "dense"
        refresh = "rolling 60 s"
        [[source]]
        from = "file"
        scored_by = "teacher"
        refresh = "on decay every 100 steps"
        [[source]]
        from = "generated"
        path = "written.jsonl"
        refresh = "every 100 steps"
        share = 0.5
        [[source]]
        from = "per-step"
        [[source]]
        from = "queue"
        size = 4096
        start_after = 10
        [[filter]]
        rule = "answer"
        [[filter]]
        rule = "teacher"
        below = 0.1
        [[filter]]
        rule = "teacher"
        min = 0.1
        max = 0.6
        at_least = 84
        ceiling = 0.95
        [[filter]]
        rule = "angle"
        [[filter]]
        rule = "sieve"
    "#;
    let draws = [
        ("simans", DrawConfig::Simans { a: 0.5, b: 0.0, temperature: None, absolute: false }),
        ("trisampler", DrawConfig::Trisampler { candidates: 30, a: 0.25, temperature: None }),
        ("rank-curve", DrawConfig::RankCurve { gain_k: 2.0, depth: None, split: "dev".into() }),
        ("margin-bins", DrawConfig::MarginBins { bins: 10 }),
        ("window", DrawConfig::Window { size: None, skip: 10 }),
        ("diverse", DrawConfig::Diverse { per_visit: 7, visits: 3, by: DiverseBy::Gradient, random_below: None }),
    ];
    for (name, draw) in draws {
        let config: NegativesConfig = toml::from_str(&format!("{text}\n[draw]\nrule = \"{name}\"")).unwrap();
        config.validate().unwrap();
        assert_eq!(config.draw, draw);
        let written = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<NegativesConfig>(&written).unwrap(), config, "{written}");
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<NegativesConfig>(&json).unwrap(), config);
        assert_eq!(config.short, Short::Beyond { from: 51, until: 1000 });
        assert_eq!((config.slices, config.decay, config.merge), (4, DecayConfig { factor: 1.2, below: 0.8 }, Merge::Shares));
        assert_eq!((config.per_step(), config.queue()), (Some(200), Some((4096, 10))));
        let dense = SourceKind::Dense { depth: 1000, refresh: Schedule::Once, model: Model::PreviousRound, below_margin: false };
        let expected = SourceConfig {
            kind: dense,
            share: Some(Ramp::Linear(Line { from: 0.25, to: 1.0 })),
            pool: Some(Ramp::Linear(Line { from: 200.0, to: 20.0 })),
            draw: None,
        };
        assert_eq!(config.source[0], expected);
        assert!(matches!(&config.source[3].kind, SourceKind::File { scored_by: ScoredBy::Teacher, refresh: Schedule::OnDecay(100), .. }));
        assert!(matches!(config.filter[3], FilterConfig::Angle { degrees: 60.0 }));
    }
}
