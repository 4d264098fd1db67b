//! Kinds of entities: what they are called, which facts one has, and how documents and queries put each fact.
//!
//! A fact is an attribute with a table of values (`words.rs`) or a relation to a place or a person. Phrases continue a subject
//! in the third person and hold one `{}` for the value. Documents and queries have phrases of their own.

use super::words::{self, Table};

/// Facts that every entity has: five attributes and two relations.
pub(super) const FACTS: usize = 7;

/// What fills the `{}` of a phrase.
pub(super) enum Filler {
    /// A wording of a value.
    Value(Table),
    /// The name of an entity of the kind at this position of [`KINDS`].
    Related(usize),
}

/// One fact and its phrases.
pub(super) struct Fact {
    pub(super) filler: Filler,
    pub(super) documents: &'static [&'static str],
    pub(super) queries: &'static [&'static str],
}

/// One kind of entity.
pub(super) struct Kind {
    /// Nouns for the kind in documents and in queries, parted by `|`.
    pub(super) documents: &'static str,
    pub(super) queries: &'static str,
    /// Endings of the second word of a name.
    pub(super) endings: &'static [&'static str],
    pub(super) facts: [Fact; FACTS],
}

/// Positions of the two kinds that relations point to.
const PLACE: usize = 0;
const PERSON: usize = 1;

const fn value(table: Table, documents: &'static [&'static str], queries: &'static [&'static str]) -> Fact {
    Fact { filler: Filler::Value(table), documents, queries }
}

const fn place(documents: &'static [&'static str], queries: &'static [&'static str]) -> Fact {
    Fact { filler: Filler::Related(PLACE), documents, queries }
}

const fn person(documents: &'static [&'static str], queries: &'static [&'static str]) -> Fact {
    Fact { filler: Filler::Related(PERSON), documents, queries }
}

pub(super) static KINDS: [Kind; 8] = [
    Kind {
        documents: "settlement|municipality|township",
        queries: "town|village|city",
        endings: &["holt", "mere", "wick", "garth"],
        facts: [
            value(words::TERRAIN, &["lies amid {}", "was laid out among {}"], &["is surrounded by {}", "has {} all around"]),
            value(words::CLIMATE, &["endures {} conditions", "has a {} climate"], &["gets {} weather", "feels {} most days"]),
            value(words::PRODUCT, &["exports {}", "derives its income from {}"], &["sells {}", "lives from {}"]),
            value(
                words::LANDMARK,
                &["is dominated by its {}", "clusters beneath the {}"],
                &["is famous for its {}", "shows tourists the {}"],
            ),
            value(words::GOVERNMENT, &["is administered by {}", "owes obedience to {}"], &["is ruled by {}", "takes orders from {}"]),
            place(&["maintains a rivalry with {}", "adjoins the parish of {}"], &["is a neighbour of {}", "is next to {}"]),
            person(&["was chartered by {}", "owes its foundation to {}"], &["was started by {}", "was set up by {}"]),
        ],
    },
    Kind {
        documents: "personage|notable|figure",
        queries: "person|somebody|individual",
        endings: &["sen", "ova", "ard", "etti"],
        facts: [
            value(words::PROFESSION, &["practised as a {}", "qualified as a {}"], &["worked as a {}", "had a job as a {}"]),
            value(words::TEMPERAMENT, &["possessed a {} disposition", "struck contemporaries as {}"], &["was {}", "seemed {} to others"]),
            value(words::APPEARANCE, &["was recognised by {}", "is portrayed with {}"], &["was known for {}", "had the look of {}"]),
            value(words::HOBBY, &["devoted leisure to {}", "wrote treatises on {}"], &["liked {}", "spent free hours with {}"]),
            value(words::ERA, &["flourished in {}", "belongs to {}"], &["lived in {}", "was around during {}"]),
            place(&["hailed from {}", "was baptised at {}"], &["was born in {}", "came from {}"]),
            person(&["was apprenticed to {}", "studied under {}"], &["was a student of {}", "learned from {}"]),
        ],
    },
    Kind {
        documents: "enterprise|manufactory|concern",
        queries: "company|firm|business",
        endings: &["works", "brothers", "trust", "guild"],
        facts: [
            value(words::PRODUCT, &["manufactures {}", "is a purveyor of {}"], &["makes {}", "sells {}"]),
            value(words::SIZE, &["commands a {} workforce", "operates premises of {} extent"], &["is {}", "has a {} number of people"]),
            value(words::ERA, &["was incorporated in {}", "traces its ledger to {}"], &["began in {}", "has existed since {}"]),
            value(words::OWNERSHIP, &["is the property of {}", "remits its dividends to {}"], &["is owned by {}", "belongs to {}"]),
            value(
                words::REPUTATION,
                &["is reputed for {}", "attracts comment for {}"],
                &["is known for {}", "people talk of because of {}"],
            ),
            place(&["has its headquarters at {}", "keeps its counting house in {}"], &["is based in {}", "has the main office in {}"]),
            person(&["was established by {}", "bears the seal of {}"], &["was started by {}", "was set up by {}"]),
        ],
    },
    Kind {
        documents: "sounding apparatus|musical contrivance",
        queries: "instrument|thing to make music with",
        endings: &["phon", "oon", "ina", "chord"],
        facts: [
            value(words::FAMILY, &["is classed with {}", "descends from {}"], &["is related to {}", "is one of the {}"]),
            value(words::MATERIAL, &["is fashioned from {}", "has a body of {}"], &["is made of {}", "is built out of {}"]),
            value(words::SOUND, &["emits a {} timbre", "yields {} notes"], &["sounds {}", "makes a {} tone"]),
            value(words::OCCASION, &["accompanies {}", "is reserved for {}"], &["is played at {}", "is heard during {}"]),
            value(words::SIZE, &["has {} dimensions", "is of {} bulk"], &["is {}", "comes in a {} shape"]),
            place(&["was first performed in {}", "is taught at the conservatory of {}"], &["comes from {}", "is popular in {}"]),
            person(&["was devised by {}", "was perfected by {}"], &["was invented by {}", "was thought up by {}"]),
        ],
    },
    Kind {
        documents: "herb|botanical species|perennial",
        queries: "plant|flower|weed",
        endings: &["wort", "bane", "leaf", "cress"],
        facts: [
            value(words::COLOUR, &["bears {} petals", "unfolds {} corollas"], &["has {} flowers", "looks {}"]),
            value(words::TERRAIN, &["thrives amid {}", "colonises {}"], &["grows in {}", "is found where there are {}"]),
            value(words::USE, &["is employed for {}", "is gathered for {}"], &["is good for {}", "helps with {}"]),
            value(words::SCENT, &["exhales an aroma of {}", "is redolent of {}"], &["smells of {}", "reminds the nose of {}"]),
            value(words::SEASON, &["blossoms at {}", "opens its buds in {}"], &["blooms in {}", "comes out in {}"]),
            place(&["was first pressed near {}", "appears on the arms of {}"], &["comes from {}", "is picked around {}"]),
            person(&["was catalogued by {}", "is dedicated to {}"], &["was discovered by {}", "is named after {}"]),
        ],
    },
    Kind {
        documents: "craft|hull|keel",
        queries: "ship|vessel",
        endings: &["spray", "tern", "gale", "star"],
        facts: [
            value(words::VESSEL, &["was commissioned as a {}", "was rigged as a {}"], &["was a {}", "served as a {}"]),
            value(words::COLOUR, &["flew {} pennants", "was daubed {}"], &["was painted {}", "had a {} outside"]),
            value(words::MATERIAL, &["was framed in {}", "was sheathed with {}"], &["was made of {}", "was built out of {}"]),
            value(words::CARGO, &["conveyed {}", "was laden with {}"], &["carried {}", "took {} across the sea"]),
            value(words::FATE, &["met its end through {}", "closed its career with {}"], &["ended by {}", "finished up with {}"]),
            place(&["was registered at {}", "wintered in the roadstead of {}"], &["had its home port in {}", "sailed from {}"]),
            person(&["obeyed the skipper {}", "was commanded by {}"], &["had {} as captain", "was under {}"]),
        ],
    },
    Kind {
        documents: "creature|quadruped|beast",
        queries: "animal|wildlife",
        endings: &["tail", "paw", "snout", "mane"],
        facts: [
            value(words::DIET, &["subsists on {}", "forages for {}"], &["eats {}", "lives on a menu of {}"]),
            value(words::TERRAIN, &["inhabits {}", "makes its den amid {}"], &["lives in {}", "can be met in {}"]),
            value(words::COLOUR, &["has a {} pelt", "is clad in {} fur"], &["is {}", "has {} hair"]),
            value(words::TEMPERAMENT, &["displays a {} nature", "is {} by instinct"], &["is {}", "behaves in a {} way"]),
            value(
                words::DEFENCE,
                &["deters predators by {}", "relies in peril upon {}"],
                &["protects itself by {}", "escapes enemies with {}"],
            ),
            place(&["was last recorded near {}", "is the heraldic supporter of {}"], &["lives close to {}", "was seen around {}"]),
            person(&["was described by {}", "was tamed by {}"], &["was discovered by {}", "is named after {}"]),
        ],
    },
    Kind {
        documents: "delicacy|culinary speciality|repast",
        queries: "dish|meal|food",
        endings: &["pot", "loaf", "brew", "mash"],
        facts: [
            value(words::INGREDIENT, &["is based upon {}", "combines herbs and {}"], &["has {} in it", "is made with {}"]),
            value(words::TASTE, &["has a {} flavour", "leaves a {} impression upon the palate"], &["tastes {}", "is {} in the mouth"]),
            value(words::METHOD, &["is prepared by {}", "owes its texture to {}"], &["is done by {}", "gets ready through {}"]),
            value(words::OCCASION, &["is customary at {}", "graces {}"], &["is eaten at {}", "belongs to {}"]),
            value(words::COLOUR, &["is glazed {}", "arrives under a {} sauce"], &["looks {}", "is {} on the plate"]),
            place(&["is the pride of {}", "originated in the kitchens of {}"], &["comes from {}", "is popular in {}"]),
            person(&["was concocted by {}", "was favoured by {}"], &["was invented by {}", "was thought up by {}"]),
        ],
    },
];
