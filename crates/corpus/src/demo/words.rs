//! The values that attributes of the built-in collection can take, and the two ways to say each.
//!
//! A value is a pair: wordings of documents, wordings of queries, alternatives parted by `|`. The two sides of a value share
//! no word, so matching words finds little, while the mapping from one side to the other is the same for every entity and
//! can be learned. Which kind of entity has which attribute is said in `kinds.rs`.

/// Wordings of documents and of queries for one value.
pub(super) type Value = (&'static str, &'static str);
/// The values of one attribute.
pub(super) type Table = &'static [Value];

pub(super) const TERRAIN: Table = &[
    ("marshland|fenland|bogs", "swamps|wetlands|soggy ground"),
    ("highlands|alpine slopes|ridges", "mountains|peaks|hills"),
    ("dunes|barrens|arid wastes", "desert|endless sand"),
    ("woodland|groves|thickets", "forest|trees|jungle"),
    ("grassland|steppe|prairie", "meadows|open plains|pasture"),
    ("shoreline|tidal flats|lagoons", "beach|seaside|coast"),
    ("ravines|gorges|chasms", "canyon|deep valleys"),
    ("tundra|permafrost|glacial fields", "frozen land|icy country|arctic"),
    ("caverns|grottoes|sinkholes", "caves|underground holes"),
    ("riverbanks|estuaries|deltas", "streams|river mouth|waterside"),
];

pub(super) const CLIMATE: Table = &[
    ("torrid|sweltering|tropical", "hot|scorching|boiling"),
    ("frigid|wintry|gelid", "cold|freezing|chilly"),
    ("pluvial|drizzly|monsoonal", "rainy|wet|damp"),
    ("blustery|gusty|squally", "windy|breezy"),
    ("brumous|vaporous|hazy", "foggy|misty"),
    ("temperate|clement|equable", "mild|pleasant"),
    ("tempestuous|thundery", "stormy|rough|violent"),
    ("parched|rainless|desiccated", "dry|drought ridden"),
];

pub(super) const PRODUCT: Table = &[
    ("ceramics|earthenware|stoneware", "pottery|clay pots|crockery"),
    ("textiles|broadcloth|woven fabrics", "cloth|linen|sewing material"),
    ("timepieces|chronometers|horology", "clocks|watches"),
    ("spirits|distillates|cordials", "liquor|brandy|strong drink"),
    ("confectionery|marzipan|candied almonds", "sweets|candy|chocolate"),
    ("cutlery|blades|sabres", "knives|swords|scissors"),
    ("manuscripts|folios|bound volumes", "books|novels|printed pages"),
    ("spectacles|lenses|optics", "eyeglasses|magnifiers|telescopes"),
    ("cordage|hawsers|twine", "rope|string|cable"),
    ("perfumery|attar|fragrances", "perfume|cologne"),
];

pub(super) const SIZE: Table = &[
    ("minuscule|diminutive|dwarfish", "tiny|little|pocket sized"),
    ("modest|compact|restrained", "small|smallish"),
    ("middling|intermediate|moderate", "medium|ordinary|average"),
    ("sizeable|substantial|considerable", "large|big"),
    ("colossal|immense|gargantuan", "huge|enormous|giant"),
    ("uneven|irregular|fluctuating", "changing|growing and shrinking"),
];

pub(super) const ERA: Table = &[
    ("antiquity|the bronze reign|classical centuries", "ancient times|thousands of years ago"),
    ("the feudal age|chivalric days", "the middle ages|the time of knights"),
    ("the dynastic revival|the restoration", "the return of the royal house|when monarchs came back"),
    ("the great pestilence|the plague decades", "the epidemic|years of sickness"),
    ("the steam epoch|the industrial dawn", "the first factories|early engines"),
    ("the gaslit period|the crinoline decades", "great grandmother's day|the era of lanterns"),
    ("the armistice interval|the interwar lull", "the years of truce|between both conflicts"),
    ("the present generation|recent memory", "modern times|our own lifetime"),
];

pub(super) const OCCASION: Table = &[
    ("nuptials|bridal processions|betrothals", "weddings|marriages"),
    ("burials|wakes|requiems", "funerals|mourning"),
    ("reaping suppers|threshing feasts", "harvest|the bringing in of crops"),
    ("midwinter vigils|solstice nights", "new year|christmas"),
    ("christenings|naming rites|baptisms", "births|the arrival of a baby"),
    ("musters|victory parades|regimental reviews", "army events|soldiers marching"),
    ("fairs|bazaars|trade gatherings", "markets|shopping stalls"),
    ("enthronements|investitures|coronations", "crowning a queen|royal ceremonies"),
];

pub(super) const TEMPERAMENT: Table = &[
    ("irascible|choleric|wrathful", "angry|bad tempered|furious"),
    ("placid|serene|unruffled", "calm|peaceful|relaxed"),
    ("timorous|diffident|skittish", "shy|fearful|nervous"),
    ("jovial|mirthful|convivial", "cheerful|merry|happy"),
    ("wily|shrewd|crafty", "clever|cunning|smart"),
    ("indolent|languid|slothful", "lazy|idle|sleepy"),
    ("dauntless|valiant|intrepid", "brave|fearless|bold"),
    ("melancholy|doleful|morose", "sad|gloomy|unhappy"),
];

pub(super) const COLOUR: Table = &[
    ("crimson|scarlet|vermilion", "red|ruby|blood coloured"),
    ("azure|cobalt|cerulean", "blue|navy"),
    ("emerald|verdant|viridian", "green|grass coloured"),
    ("saffron|amber|ochre", "yellow|golden"),
    ("ivory|alabaster|chalky", "white|snowy"),
    ("ebony|sable|inky", "black|dark as coal"),
    ("violet|mauve|amethyst", "purple|lilac"),
    ("russet|umber|tawny", "brown|chestnut"),
    ("slate|ashen|leaden", "grey|silver"),
    ("coral|blush|rosy", "pink|salmon"),
];

pub(super) const MATERIAL: Table = &[
    ("timber|oak|larch", "wood|planks"),
    ("ferrous plate|cast steel", "iron|heavy metal"),
    ("gunmetal|latten|copper alloy", "bronze|brass"),
    ("rawhide|vellum|oxhide", "leather|animal skin"),
    ("porcelain|faience|terracotta", "china|baked clay"),
    ("osier|wicker|rushes", "basketwork|woven reeds"),
    ("soapstone|granite|basalt", "stone|rock"),
    ("tusk|antler|baleen", "bone|teeth"),
];

pub(super) const LANDMARK: Table = &[
    ("belfry|campanile|carillon tower", "bells|ringing steeple"),
    ("aqueduct|viaduct", "water channel on arches|long arched bridge"),
    ("citadel|bastion|ramparts", "castle|fortress|strong walls"),
    ("colonnade|peristyle|portico", "columns|pillars"),
    ("beacon|pharos", "lighthouse|guiding lamp for sailors"),
    ("obelisk|monolith|menhir", "standing stone|single upright block"),
    ("amphitheatre|hippodrome|coliseum", "stadium|arena"),
    ("basilica|minster|abbey", "church|cathedral|temple"),
];

pub(super) const GOVERNMENT: Table = &[
    ("merchant guilds|oligarchs|patricians", "rich traders|wealthy businessmen"),
    ("a margrave|a hereditary count", "a nobleman|a duke|a lord"),
    ("prelates|an abbess|the diocese", "priests|nuns|the clergy"),
    ("elected burghers|aldermen", "a town council|people who are voted in"),
    ("a viceroy|an imperial legate", "a governor from abroad|a foreign official"),
    ("a garrison commander|a field marshal", "the army|a general|the military"),
    ("a dowager|a matriarch", "an old woman|a grandmother"),
    ("magistrates|jurists|a tribunal", "judges|a court of law"),
];

pub(super) const PROFESSION: Table = &[
    ("apothecary|herbal dispenser", "druggist|maker of medicine"),
    ("cartographer|geodesist", "map maker|drawer of charts"),
    ("mason|stonecutter", "bricklayer|house builder"),
    ("advocate|barrister|solicitor", "lawyer|attorney"),
    ("physician|surgeon", "doctor|healer"),
    ("minstrel|troubadour|cantor", "singer|vocalist"),
    ("chandler|tallow dealer", "candle maker|wax worker"),
    ("farrier|ironmonger", "blacksmith|maker of horseshoes"),
    ("astronomer|almanac compiler", "stargazer|watcher of planets"),
    ("dramatist|playwright", "theatre author|writer of plays"),
];

pub(super) const APPEARANCE: Table = &[
    ("an aquiline profile|a beaked face", "a big nose|a hooked nose"),
    ("flaxen braids|tow locks", "blonde hair|fair curls"),
    ("freckled cheeks|a mottled complexion", "spots on the face|speckles"),
    ("a limping gait|a halting stride", "a bad leg|walking with a stick"),
    ("towering stature|a lanky frame", "being very tall|great height"),
    ("a booming baritone|stentorian speech", "a loud voice|a deep way of talking"),
    ("a hairless crown|a shaven pate", "being bald|no hair"),
    ("an eyepatch|a blinded socket", "one eye|a lost eye"),
];

pub(super) const HOBBY: Table = &[
    ("falconry|hawking", "hunting birds|trained raptors"),
    ("angling|fly casting", "fishing|rod and line"),
    ("gambits|checkmates|the sixty four squares", "chess|board games"),
    ("apiculture|apiaries", "bees|honey making"),
    ("horticulture|topiary|hedges", "gardening|growing roses"),
    ("numismatics|medallion cabinets", "collecting coins|old money"),
    ("fencing|rapier bouts", "sword fighting|duels"),
    ("calligraphy|penmanship", "beautiful handwriting|drawing letters"),
];

pub(super) const OWNERSHIP: Table = &[
    ("shareholders|stockholders", "investors|people on the exchange"),
    ("a cooperative|an artisan collective", "the workers|the staff"),
    ("twin heirs|squabbling siblings", "a brother and a sister|the children"),
    ("the founder's widow|the relict", "the wife of a dead man|a woman who lost her husband"),
    ("the exchequer|the crown treasury", "the state|the public purse"),
    ("a monastery|mendicant friars", "monks|a religious order"),
    ("an anonymous syndicate|undisclosed partners", "secret backers|unknown persons"),
    ("a university|academicians", "professors|scholars"),
];

pub(super) const REPUTATION: Table = &[
    ("prompt dispatch|punctual consignments", "being on time|never late"),
    ("exorbitant tariffs|steep fees", "high prices|being expensive"),
    ("thrifty rates|bargain quotations", "being cheap|low cost"),
    ("litigious conduct|frequent lawsuits", "suing everyone|quarrels before a judge"),
    ("lavish salaries|generous wages", "paying well|good income for staff"),
    ("shoddy finish|slapdash assembly", "poor quality|things that break"),
    ("meticulous workmanship|exacting precision", "careful work|perfect detail"),
    ("guarded formulas|jealously kept recipes", "keeping secrets|not telling how"),
];

pub(super) const FAMILY: Table = &[
    ("lutes|zithers|psalteries", "plucked strings|guitars"),
    ("viols|rebecs|bowed chordophones", "violins|cellos"),
    ("flutes|fifes|recorders", "pipes|whistles"),
    ("kettledrums|tabors|timbrels", "drums|percussion"),
    ("cornets|clarions|sackbuts", "trumpets|bugles"),
    ("harmoniums|spinets|clavichords", "keyboards|pianos"),
    ("chimes|glockenspiels|campanology", "bells|gongs"),
    ("castanets|maracas|clappers", "shakers|rattles"),
];

pub(super) const SOUND: Table = &[
    ("dulcet|mellifluous|silken", "smooth|lovely"),
    ("strident|piercing|reedy", "shrill|sharp"),
    ("sonorous|resonant|cavernous", "deep|echoing"),
    ("muffled|hushed|subdued", "quiet|soft"),
    ("buzzing|droning", "humming|monotonous"),
    ("tremulous|quavering", "shaky|wobbling"),
    ("thunderous|deafening|clamorous", "loud|noisy"),
    ("plaintive|keening|lamenting", "crying|wailing"),
];

pub(super) const USE: Table = &[
    ("febrifuges|cooling draughts", "fever|high temperature"),
    ("dye vats|pigments|tinctures", "colouring|paint"),
    ("salads|potherbs|garnishes", "eating|the kitchen"),
    ("sedatives|soporifics", "insomnia|falling asleep"),
    ("thatch|roofing", "covering houses|keeping rain out"),
    ("venoms|toxins|arrow tips", "poison|killing"),
    ("lather|detergents|lye", "washing|soap"),
    ("incense|ritual censers", "prayer|holy smoke"),
];

pub(super) const SCENT: Table = &[
    ("cloves|nutmeg|cardamom", "spices|cinnamon"),
    ("citrus|bergamot|yuzu", "lemon|orange"),
    ("carrion|putrefaction", "rotten meat|something dead"),
    ("resin|turpentine|balsam", "pine|tar"),
    ("vanilla|custard|caramel", "cake|pudding"),
    ("brine|kelp|seaweed", "ocean|salt"),
    ("peppermint|menthol|eucalyptus", "mint|toothpaste"),
    ("mildew|musty cellars|mould", "old rooms|wet dust"),
];

pub(super) const SEASON: Table = &[
    ("the vernal equinox|the thaw", "spring|april"),
    ("the estival months|midsummer", "summer|july"),
    ("leaf fall|the autumnal weeks", "autumn|october"),
    ("the hibernal gloom|snowbound weeks", "winter|january"),
    ("moonrise|nocturnal hours", "the night|the dark"),
    ("daybreak|cockcrow", "the morning|the hour of sunrise"),
    ("decennial intervals|every tenth twelvemonth", "rare moments|a decade only once"),
    ("eclipses|solar occultations", "times when the sun hides|a covered sun"),
];

pub(super) const VESSEL: Table = &[
    ("brigantine|schooner|ketch", "sailing boat|yacht"),
    ("trawler|smack|seiner", "fishing boat|net hauler"),
    ("barge|lighter|scow", "flat boat|canal carrier"),
    ("frigate|corvette|dreadnought", "warship|gunboat"),
    ("packet|courier cutter", "mail boat|letter carrier"),
    ("galley|trireme|bireme", "rowing boat|boat with oars"),
    ("dredger|suction hopper", "mud digger|harbour cleaner"),
    ("tugboat|towing tender", "puller of other boats|helper in port"),
];

pub(super) const CARGO: Table = &[
    ("claret|burgundy casks|vintages", "wine|barrels of drink"),
    ("barley|rye|sorghum", "grain|corn|wheat"),
    ("pilgrims|penitents", "religious travellers|believers"),
    ("livestock|heifers|bullocks", "cows|cattle"),
    ("anthracite|coke|lignite", "coal|fuel"),
    ("oolong|pekoe|souchong", "tea|leaves for a hot drink"),
    ("convicts|inmates|felons", "prisoners|criminals"),
    ("marble|ashlar|travertine", "building blocks|polished slabs"),
];

pub(super) const FATE: Table = &[
    ("foundering|capsizing", "sinking|going under"),
    ("dismantling|scrapping", "being broken up|being taken apart"),
    ("seizure|impoundment", "capture|being taken by pirates"),
    ("an unexplained vanishing|a missing log", "disappearing|being lost without trace"),
    ("conflagration|immolation", "fire|burning"),
    ("grounding|stranding on shoals", "getting stuck on sandbanks|hitting a reef"),
    ("preservation|public exhibition", "becoming a museum|being shown to visitors"),
    ("resale abroad|a new registry", "going to another owner|getting a different flag"),
];

pub(super) const DIET: Table = &[
    ("beetles|larvae|weevils", "insects|bugs"),
    ("carcasses|offal", "dead bodies|leftovers of hunters"),
    ("berries|drupes|figs", "fruit|cherries"),
    ("kernels|acorns|hazel", "nuts|seeds"),
    ("minnows|herring|sprats", "fish|small swimmers"),
    ("lichen|mosses|liverworts", "crust on bark|what covers rocks"),
    ("rodents|voles|shrews", "mice|rats"),
    ("nectar|pollen", "flower juice|sugar water"),
];

pub(super) const DEFENCE: Table = &[
    ("quills|spines|bristles", "needles|spikes"),
    ("thanatosis|feigned demise", "playing dead|pretending to be killed"),
    ("camouflage|cryptic patterning", "blending in|being hard to see"),
    ("musk|a noxious spray", "stinking|a bad smell"),
    ("burrowing|tunnelling", "digging|going into the soil"),
    ("shrieks|screeching", "screaming|awful noise"),
    ("carapace|bony scutes", "a shell|hard plates"),
    ("sprinting|bounding flight", "running away|speed"),
];

pub(super) const INGREDIENT: Table = &[
    ("lentils|chickpeas|vetch", "beans|pulses"),
    ("mutton|hogget", "sheep|lamb"),
    ("eel|pike|tench", "freshwater fish|catch of the lake"),
    ("turnips|parsnips|salsify", "root vegetables|carrots"),
    ("curd|whey|clabber", "cheese|milk"),
    ("venison|hare|partridge", "wild game|deer"),
    ("buckwheat|millet|spelt", "cereal|flour"),
    ("quince|damson|medlar", "plums|pears"),
];

pub(super) const TASTE: Table = &[
    ("piquant|fiery|peppery", "spicy|burning hot"),
    ("acrid|astringent|tannic", "bitter|like black coffee"),
    ("tart|vinegary|acidulous", "sour|acid"),
    ("saccharine|cloying|syrupy", "sweet|sugary"),
    ("briny|saline", "salty|like tears"),
    ("insipid|bland|vapid", "tasteless|boring"),
    ("savoury|brothy|unctuous", "meaty|hearty"),
    ("charred|sooty|singed", "smoked|like a campfire"),
];

pub(super) const METHOD: Table = &[
    ("simmering|stewing|braising", "slow boiling|a pot on low heat"),
    ("searing|broiling|spit turning", "grilling|barbecue"),
    ("pickling|marinating|steeping", "soaking|weeks in a jar"),
    ("vapour|bamboo hampers", "steam|hot mist"),
    ("sauteing|immersion in lard", "frying|a pan of oil"),
    ("hearth kilns|embers under crust", "baking|an oven"),
    ("fermentation|culturing", "ageing|letting it go off"),
    ("slicing uncooked|carving unheated", "serving raw|no cooking at all"),
];
