"""Words by which a prompt counts its documents, by language, and orders that answers follow.

English ordinals count documents only beside a word for one ("the second document", "the last
one"), as questions are full of them otherwise. In other languages any ordinal keeps the order: a
missed hit is forgiven.

Rules are matched at the words that may begin them: `(words, pattern)`.
"""

from __future__ import annotations

NOUNS = (
    "document documents doc docs passage passages source sources context contexts chunk chunks "
    "snippet snippets result results reference references memory memories excerpt excerpts "
    "evidence article articles file files text texts page pages paragraph paragraphs entry entries "
    "item items hit hits attachment attachments paper papers report reports section sections "
    "clause clauses part parts piece pieces record records row rows fact facts citation citations "
    "contract contracts letter letters story stories image images option options candidate "
    "candidates element elements link links one ones segment segments comment comments pair half "
    "couple trio draft drafts version versions"
)
NOUN_PATTERN = _NOUN = rf"(?:search )?(?:{NOUNS.replace(' ', '|')})"
ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth last final "
    "penultimate former latter previous preceding next middle top bottom earlier later initial ith "
    "opening closing "
    "nth"
)
_ORDINAL = rf"(?:{ORDINALS.replace(' ', '|')}|[in]-th|\d{{1,3}}(?:st|nd|rd|th))"
NUMBER_WORDS = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
_BETWEEN = (
    r"(?: (?:two|three|four|few|\d{1,2}|of|these|those|the|my|your|retrieved|given|listed)){0,4}"
)
_ENDS = (
    r"(?=[ ]?(?:[?.!,;:)]|$)| (?:and|or|vs\.?|versus|with|says?|claims?|mentions?|states?|than|"
    r"talks?|speaks?|describes?|deals?|tells?|covers?|discuss(?:es)?|explains?|argues?|refers?|"
    r"about|to (?:say|mention|name|claim|state|speak|talk|tell|describe|discuss))\b)"
)
ORDINAL = "1st"
"""Stands among the words of a rule for any `3rd`, `5th`."""

POSITIONS: tuple[tuple[str, str], ...] = (
    (
        f"{ORDINALS} i n {ORDINAL}",
        rf"{_ORDINAL}(?:[ -](?:and|or|to|,|through)[ -](?:the )?{_ORDINAL})?{_BETWEEN} {_NOUN}\b",
    ),
    # "the second?", "the last and": a position that stands for a document
    (
        "first second third fourth fifth sixth seventh eighth ninth tenth last penultimate former "
        f"latter previous preceding bottom {ORDINAL}",
        rf"(?<=the ){_ORDINAL}{_ENDS}",
    ),
    (
        "merge compare contrast summarize summarise quote translate skip ignore read cite",
        rf"\w+ the {_ORDINAL}\b",
    ),
    ("second third next", r"\w+[- ](?:to|from|but)[- ](?:the[- ])?(?:last|end|one)\b"),
    (NUMBER_WORDS.replace("|", " "), rf"\w+ (?:or|and|to|vs\.?|versus) (?:{NUMBER_WORDS})\b"),
    (
        NUMBER_WORDS.replace("|", " "),
        r"\w+ (?:down|up|further|ahead|along|places?|positions?|spots?|slots?) "
        r"(?:from|of|after|before)\b",
    ),
    (ORDINAL, r"\w+ (?:and|or|one|of these)\b"),
    (NOUNS, rf"{_NOUN} (?:above|below|before|after) (?:it|that|this)\b"),
    ("one", r"one (?:above|below|before|after)\b"),
    (
        "on in at à en em an auf",
        r"\w+ (?:which|what|welche[rmn]?|quelle|qué|che|quale|que|qual) "
        r"(?:lines?|rows?|paragraphs?|position|zeile|absatz|stelle|ligne|paragraphe|línea|"
        r"renglón|posición|párrafo|riga|posizione|paragrafo|linha|posição|parágrafo)\b",
    ),
    (
        "one ones those that",
        r"\w+ (?:in|at|near|towards?|on) the (?:middle|start|end|top|bottom|beginning|front|back|"
        r"left|right)\b",
    ),
    (
        "one ones document text passage that what",
        r"\w+ (?:that |which )?i (?:gave|sent|pasted|shared|posted|attached|mentioned|showed)"
        r"(?: you)? (?:first|last|earlier|before|at the|in the)\b",
    ),
    # a place within what was given
    (
        "first last second third final opening closing nth",
        r"\w+ (?:\w+ ){0,2}?(?:words?|sentences?|lines?|letters?|phrases?|thing) "
        r"(?:(?:that |which )?(?:you (?:were|have been|got|see)|i (?:gave|sent|pasted|showed))|"
        rf"(?:of|in) (?:each|all|these|those|every|the {_NOUN}))\b",
    ),
    (
        "counting counted count",
        r"\w+ (?:backwards?|from the (?:end|start|top|bottom|back|front))\b",
    ),
    (
        "latest newest oldest earliest recent",
        r"\w+ (?:ones?|of (?:them|these|those)|document|text|passage|source|entry|item|version)\b",
    ),
    ("bookends penultimate outermost innermost", r"\w+"),
    ("outer inner", rf"\w+ (?:{NUMBER_WORDS}|{_NOUN})\b"),
    ("before after", r"before or after\b|after or before\b"),
    ("pair", r"pair (?:up|them|the|each)\b"),
    ("letters letter", r"letters? (?-i:[A-H]) (?:to|through|and)\b"),
    ("as", r"as (?:one|you|we) (?:reads?|goes|go|moves?) (?:on|along|down|through)\b"),
    ("juste", r"juste (?:avant|après)\b"),
    ("ganz", r"ganz (?:oben|unten|vorne|hinten|am)\b"),
    ("arriba abajo", r"\w+ del todo\b"),
    ("самом", r"самом (?:начале|конце|верху|низу)"),
    ("position place spot slot", r"\w+ (?:no\.? |number |#)?\d{1,2}\b"),
    (
        "i",
        r"i (?:give|gave|sent|send|showed?|pasted?) (?:you |it )?"
        r"(?:first|last|at the (?:start|end))\b",
    ),
    ("which", r"which (?:two |three )?neighbou?rs?\b"),
    (NOUNS, rf"{_NOUN} (?-i:[B-H])\b(?! (?-i:[A-Z]))"),
    ("beginning end start top bottom", r"\w+ of (?:the|this) list\b"),
    (
        NOUNS,
        rf"{_NOUN} (?:(?:that|which) (?:are|stand|come) )?(?:at|near|towards?) the (?:very )?"
        r"(?:top|bottom|beginning|start|end|middle) (?:are|is|have|has|count|matter|should|weigh|"
        r"carry|override|take)\b",
    ),
    (
        "upper lower topmost bottommost uppermost lowest leading trailing",
        rf"\w+ (?:(?:{NUMBER_WORDS}|few|half|\d{{1,2}})\b|(?:of )?(?:the |these )?{_NOUN}\b)",
    ),
    ("topmost bottommost uppermost", r"\w+"),
    (
        "adjacent neighbouring neighboring consecutive successive surrounding",
        rf"\w+ {_NOUN}\b",
    ),
    ("neighbour neighbours neighbor neighbors", r"neighbou?rs?(?=[ ]?[?.!,;:)]|$)"),
    ("list", r"list (?:begins|starts|ends|opens|closes)\b"),
    (
        "is are",
        r"\w+ (?-i:[A-H]) (?:better|worse|older|newer|longer|shorter|more|less|right|true)\b",
    ),
    ("follows precedes succeeds", rf"\w+ (?:the|this|that) {_NOUN}\b"),
    (
        "compare contrast between merge combine",
        r"\w+ (?:I{1,3}|IV|VI{0,3}|IX|X),? (?:and|with|to|or|vs\.?|versus) (?:[IVX]{1,4})\b",
    ),
    (NOUNS, rf"{_NOUN} (?:at the )?(?:top|bottom|beginning|end) of (?:the|this) list\b"),
    # French and Italian words that are English ones without their article
    (
        "le la les du au aux des ce cette",
        r"\w+ (?:premi[eè]re?s?|seconde?s?|derni[eè]re?s?|\d{1,2}(?:er|re|e|[èe]me))\b"
        r"(?! (?:ministre|guerre|fois))",
    ),
    ("mu", r"mu dheireadh\b"),
    ("nke", r"nke (?:mbụ|abụọ|atọ|ikpeazụ)"),
    ("ugu", r"ugu (?:dambe|horre)\b"),
    ("el los", r"\w+ (?:primer|tercer)\b"),
    ("det den de", r"\w+ (?:andra|andre|anden|andet)\b"),
    ("son", r"son (?:belge|met[in]|kaynak|parça|yazı|paragraf|bölüm)\w*"),
    ("al a", r"al? (?:doilea|treilea|patrulea|doua|treia)\b"),
    ("thứ", r"thứ (?:nhất|hai|ba|tư|năm|\d)"),
    ("cuối đầu", r"(?:cuối cùng|đầu tiên)"),
)
_HELD_PLACE = r"(?:earlier|later|higher|lower|further|first|last)"
"""Which of several documents holds where they disagree, told by its place."""
ORDERS: tuple[tuple[str, str], ...] = (
    (
        "in keep preserve maintain follow keeping preserving following",
        r"\w+ (?:exactly )?(?:the )?(?:same|given|original|input|listed|presented|right|document) "
        r"order\b",
    ),
    ("the their its", r"\w+ order (?:in which (?:they|the|these)|they|matters|given)\b"),
    ("same keep", r"\w+ (?:the )?order\b"),
    (
        "reorder rearrange shuffle sort arrange reverse",
        rf"\w+ (?:all )?(?:of )?(?:the |these |those |my )?{_NOUN}\b",
    ),
    ("per", r"per (?:document|source|passage|text|result|snippet|chunk|excerpt|entry)\b"),
    ("turn", rf"turn (?:all )?(?:the |these |those ){_NOUN} into\b"),
    ("in by", r"\w+ (?:the )?order (?:received|of appearance|provided|of arrival)\b"),
    (
        "weight prefer trust believe",
        rf"\w+ (?:to |in |the ){{0,2}}(?:{_NOUN}) (?:(?:that|which) (?:is|are|comes?|stands?) )?"
        r"(?:at|near|towards?|given|listed|comes?) (?:the )?(?:very )?(?:first|last|top|bottom|"
        r"beginning|start|end)\b",
    ),
    (
        "trust prefer believe favor favour weigh follow priority precedence",
        rf"\w+(?: [\w,]+){{0,10}}? {_HELD_PLACE}\b",
    ),
    (
        "earlier later higher lower further first last above below",
        r"\w+(?: [\w,]+){0,6}? (?:precedence|priority|overrid\w+|overrul\w+|outrank\w*|wins?|"
        r"prevails?|supersedes?|trumps?)\b",
    ),
    ("end ends ended", r"\w+ up (?:so |that |this |as )?(?:low|high|far|on top|where|at)\b"),
    ("go goes going went", r"\w+ on(?= (?:once|after|when|from|then|with it)\b|[ ]?[?.!]|$)"),
    ("as", r"as many \w+ as (?:there are|you see|given|the|these)\b"),
    (
        "keep keeping leave leaving",
        r"\w+ (?:\w+ ){1,4}?(?:where (?:it|they) (?:is|are|stands?)|in place|intact|untouched|"
        r"unchanged|as (?:it|they) (?:is|are|stands?))\b",
    ),
    ("geht ging", r"\w+ (?:es |das )?los\b"),
    ("given listed stands", r"\w+ (?:first|last)\b(?! name)"),
    ("which", r"which number\b"),
    ("one", r"one to the (?:next|other)\b"),
    (NOUNS, rf"{_NOUN}(?:_|(?-i:(?=[IN])))(?:ind(?:ex|ices)|idx|numbers?|num|positions?|ranks?)\b"),
    (
        "translate convert reformat proofread anonymize anonymise paraphrase reword print",
        rf"\w+ (?:out )?(?:all )?(?:of )?(?:the|these|this|those|my) (?:{_NOUN}\b(?! of the)|"
        r"(?:to|into|as)\b|above\b|following\b)",
    ),
    ("in", r"in (?:their |that )?order(?=[ \t]*(?:[.,;:!?)\n]|$))"),
    ("order", r"order (?:shown|above|below|given|listed|presented|you see)\b"),
    ("element item", r"\w+ by (?:element|item)\b"),
    ("matching mirroring parallel", r"\w+ (?:with |to )?the (?:input|given|original)\b"),
    ("one", r"one (?:by one|after (?:the other|another)|at a time)\b"),
    ("every", r"every (?:other|second|third|fourth|odd|even)\b"),
    ("odd even", r"\w+-numbered\b"),
    ("top bottom", r"\w+ to (?:top|bottom)\b"),
    ("comes come", r"comes? (?:first|last|before|after)\b"),
    ("alphabetical halves columns column numbering positions", r"\w+"),
    ("two three four", r"\w+ at a time\b"),
    ("half", r"half of (?:the|this) list\b"),
    ("do does are is", r"\w+ \d{1,2}(?:, \d{1,2})*,? and \d{1,2}\b"),
    ("walk", r"walk (?:me |us )?through\b"),
    ("lead", rf"lead {_NOUN}\b"),
    ("right just immediately directly", r"(?<!query given )\w+ (?:before|after|above|below)\b"),
    ("runner tail", r"runner-?up|tail[- ]end"),
    ("top", r"top (?:two|three|four|five)\b(?! (?:search|documents|results|passages|sources))"),
    (NUMBER_WORDS.replace("|", " "), rf"\w+, (?:{NUMBER_WORDS})\b"),
    ("reply respond answer", r"\w+ like \[?\d"),
    (
        "order",
        r"order of (?:the |these |all )?(?:documents|passages|sources|segments|items|importance|"
        r"relevance|events)\b",
    ),
    (
        "sorted ordered ranked listed",
        r"\w+ (?:from|by|in|chronologically|according|best|most|newest|oldest)\b",
    ),
    ("newest oldest earliest latest best", r"\w+ (?:ones? )?(?:first|to|on top|at the \w+)\b"),
    ("most", r"most (?:recent|relevant|important) (?:ones? )?(?:first|on top)\b"),
    ("re rerank reranking reranker", r"re-?rank"),
    ("rank ranking", r"\w+ (?:the|these|each|all|them|of|\d|passages|documents)"),
    ("listwise", r"listwise"),
    (
        "one a single",
        r"\w+ (?:score|grade|number|integer|label|word|line|sentence|answer|verdict|rating|"
        r"bullet|bullet point|paragraph|row|entry|item|heading|title|summary|"
        r"json object) (?:per|for each|on each|for every) \w+|one per \w+",
    ),
    (
        "score grade rate label judge classify translate rewrite number",
        r"\w+ (?:the \w+ of )?(?:each|every|all|the following)\b",
    ),
    (
        "for",
        r"for (?:each|every) (?:of the )?(?:\w+ )?(?:document|passage|source|result|chunk|snippet|"
        r"text|item|candidate|article|excerpt)s?\b,? (?:\w+ ){0,2}(?:output|write|answer|return|"
        r"give|print|decide|say|assign|respond|reply|yes)",
    ),
    ("i n ith nth", r"[in]-?th (?:element|item|entry|line|document|passage)\b"),
    ("respectively chronological chronologically", r"\w+"),
    ("line", r"line by line\b"),
    (
        "array list",
        r"\w+ of (?:\w+ ){0,3}(?:scores|labels|grades|verdicts|booleans|values|"
        r"integers|true|false|yes|no)\b",
    ),
    (
        "number numbers index indices indexes identifier identifiers id ids position positions",
        r"\w+ (?:of (?:the |all |each |every |those |these )?(?:\w+ )?(?:documents?|passages?|"
        r"sources?|items?|elements?|candidates?|results?|texts?|options?|articles?|chunks?|"
        r"snippets?)|"
        r"next to|only)\b",
    ),
    (
        "give return output reply respond answer pick choose",
        r"\w+(?: only)?(?: with| by)? (?:\w+ ){0,3}(?:index|indices|numbers?|position|rank)\b"
        r"(?! of (?:sentences|words|tokens))",
    ),
    ("which", r"which (?:are|were|one|ones|of (?:them|these|those))\b"),
    (
        "which",
        r"which (?:of (?:the|these) )?(?:following )?(?:two |three )?(?:passage|document|source|"
        r"answer|response|candidate|image|option|text|summary)s? (?:is|are|was|answers?|shows?|"
        r"best|better|contains?|number|do|does)\b",
    ),
    (
        "prefer",
        r"prefer (?:the )?(?:earlier|later|former|first|last|documents? (?:that come|at))\b",
    ),
    ("earlier later", r"\w+ (?:documents?|passages?|sources?|ones?)\b"),
    (
        "continue",
        r"continue (?:the|this) (?:story|text|conversation|series|sequence|"
        r"list|pattern)\b",
    ),
    ("transition transitions", rf"\w+ (?:between|from) (?:the |these |each )?{_NOUN}\b"),
    ("as across through", rf"\w+ the (?:{_NOUN}) (?:progress|go on|proceed|unfold|continue)\w*"),
    (
        "develop develops evolve evolves unfold unfolds progress",
        rf"\w+ (?:across|through|over|"
        rf"throughout|from) (?:the |these )?{_NOUN}\b",
    ),
    ("into", r"into (?:one|a single) (?:continuous|connected|flowing|coherent) (?:text|story)\b"),
    ("click", r"click\("),
    ("element", r"element (?:index|id|number)\b"),
    ("sequence", r"sequence of (?:events|the (?:documents|passages|steps|turns))\b"),
    ("gleichen gleicher derselben dieser", r"\w+ reihenfolge\b"),
    ("même mismo mesma stesso zelfde", r"\w+ (?:ordre|orden|ordem|ordine|volgorde)\b"),
    ("том порядке aynı", r"(?:том же|порядке|aynı sıra\w*)"),
)
"""Answers that are told by the place of a block, or follow the order of the blocks."""

FOREIGN_ORDINALS = (
    # German, Dutch, Scandinavian; a word that ends with "." stands for itself alone
    "erste. ersten. erster. erstes. erstem. zweite dritte vierte fünfte fuenfte sechste siebte "
    "achte. achten. letzte vorletzte vorige. vorigen. nächste naechste "
    "eerste tweede derde. vierde vijfde laatste vorige. voorlaatste "
    "första tredje fjärde femte sista første fjerde sidste siste "
    # French, Spanish, Portuguese, Italian, Romanian
    "dernier. dernière "
    "deuxième deuxieme troisième troisieme quatrième quatrieme cinquième cinquieme précédent "
    "avant-dernier primero. primeros. primera. primeras. segundo segunda tercero. tercera. cuarto. "
    "cuarta. quinto. quinta. último última últimos ultimo. ultima. ultimi. ultimul penúltim "
    "penultim primeiro primeira terceiro terceira quarto. quarta. primo. prima. secondo seconda "
    "terzo. terza. primul "
    # Slavic, Greek, Turkish, Finnish, Hungarian, Indonesian
    "перв второ второй вторую вторая вторым третий третье третья третью третьем третьим четверт "
    "четвёрт пятый пятая пятое пятого последн предпоследн предыдущ перш другий другого друга. "
    "останн pierwsz drugi. drugiego. drugim. druga. drugą. trzeci czwart piąty. piąta. ostatni "
    "poprzedni prvn první druhý. druhá. druhé. třetí čtvrt posledn πρώτ δεύτερ τρίτ τέταρτ "
    "τελευταί birinci ikinci üçüncü dördüncü beşinci sonuncu önceki i̇kinci ensimmäi toinen. "
    "toisen. "
    "toisessa. kolmas. kolmannen. viimei első második harmadik negyedik utolsó pertama kedua. "
    "ketiga. keempat. terakhir "
    # Catalan, Lithuanian, Latvian, Estonian, Croatian, Swahili, Tagalog, Basque
    "segon. segona. tercer. últim antras. antrasis antrą antro trečias trečia pirmas pirmasis "
    "pirma. "
    "pirmajam pirmam pirmą pirmo paskutin otrais otrajā trešais pēdēj teine. teist. teise. esimene "
    "esimese esimest kolmas. viimane viimase treći treća treće trećeg prvi. prvo prva. prvom "
    "zadnji "
    "първ втори. втория. вторият. втората. второто. трета. други. другом. другог. "
    "другој. друга. прв. први. прва. прво. првом. annað. "
    "annar. önnur. "
    "fyrsta. fyrsti. þriðja. dara. tríú. chéad. ail. trydydd. cyntaf. olaf. екінші бірінші "
    "үшінші соңғы "
    "biyu. farko. dua. unua. tria. lasta. "
    # Slovenian, Albanian, Macedonian, Belarusian, Latin, Icelandic, Gaelic, Occitan
    "tretja. tretje. tretjem. tretji. četrta. četrto. četrti. zadnja. zadnje. zadnjem. predzadnj "
    "dytë dyta. dyti. parë. parët. tretë. treti. fundit katërt вториот втората второто третиот "
    "третата последниот првиот првата другі другога трэці апошні secundum. secundo. tertium. "
    "tertio. primum. ultimum. ultimo. quartum. dàrna treas darrer. darrera. darrièr segond. "
    # Central Asia, Africa, the Pacific, the Caribbean, the Philippines, Kurdish
    "ikkinchi birinchi uchinchi oxirgi экинчи биринчи үчүнчү акыркы икенче беренче хоёрдугаар "
    "гуравдугаар сүүлийн mwisho keji. kẹta. ikẹhin sibili wesibili okwesibili wokugcina labaad "
    "saddexaad faharoa fahatelo farany dezyèm twazyèm dènye tuarua. tuatoru. whakamutunga "
    "ikaduha ikatulo katapusan duyem sêyem dawî "
    "bovenste. onderste. middelste. oberste. obersten. unterste. untersten. zuoberst zuletzt. "
    # "sorted", of documents
    "sortiert geordnet classés. triés. ordenad ordinati. ordinate. отсортирован упорядочен "
    "gesorteerd gerangschikt posortowan uporządkowan sıralanmış sıralı. seřazen sorterade sorteret "
    "sortert ordonate. järjestyksessä rendezve. ταξινομημέν diurutkan "
    # more forms of Finnish, Czech, Polish, Norwegian, Afrikaans
    "toiseen. toista. kolmatta. neljäs. neljännen. druhého. druhém. druhou. drugie. drugiej. "
    "drugą. tredje. neste. laaste. voorlaaste. "
    "posljednj pili. kwanza. tatu. ikalawa ikatlo unang huling bigarren lehen. azken"
)
EACH = (
    r"jede[smnr]?|chaque|cada|ogni|ognuno|кажд\w+|кожн\w+|elke?|iedere?|każd\w+|varje|"
    r"varsin|hver[t]?|jokai\w+|kunkin|κάθε|fiecare|každ\w+|vsak\w*|svak\w*|setiap|masing-masing|mỗi|minden|"
    r"her (?:belge|metin|bir|kaynak)\w*|bawat|kila"
)
"""Words for "each": a question that has one after the documents means them."""
TIMES = (
    r"anno|giorno|mese|settimana|volta|estate|inverno|jahre?s?|tag\w*|monats?|woche|mal|ann[ée]e|an|jour|mois|"
    r"semaine|fois|año|día|mes|semana|vez|ano|dia|mês|jaar|dag|maand|week|keer|år|månad|vecka|"
    r"gång|höst|vår|sommar|vinter|gang|uke|rok|dzień|miesiąc|tydzień|год\w*|день|месяц|раз"
)
"""After a word for "each" these speak of no documents."""
NUMBERED_NOUNS = (
    "document documents doc docs passage passages source sources context contexts chunk chunks "
    "snippet snippets result results reference references memory memories excerpt excerpts "
    "evidence article articles file files text texts page pages paragraph paragraphs item items "
    "fact facts citation citations clause clauses section sections candidate candidates option "
    "options entry entries row rows link number rule rules hit hits record records statement "
    "statements "
    "dokument dokumente dokuments dokumentu dokumentem dokumenten dokumentet quelle quellen "
    "textstelle documento documentos documenti fuente fuentes fonte fontes fonti bron bronnen "
    "źródło źródła belge kaynak документ документа документе документом документы источник "
    "источника источнике nummer numéro numero número номер extrait passaggio "
    "texte textes texto testo tekst tekstu tekście teksta teksten текст текста тексте тексту "
    "absatz abschnitt fassung paragraphe párrafo paragrafo alinea fragmento fragment фрагмент "
    "фрагменте отрывок отрывке абзац абзаце akapit odstavec stycke avsnitt afsnit kappale bekezdés "
    "metin parça brano trecho passagem uryvek úryvek kohta teksti szöveg text tekste"
)
ABBREVIATIONS = "nr no núm num n"
"""Words for "number" that a full stop or ring follows: `Nr. 4`, `n° 3`."""
NO_PLACES = (
    r"weltkrieg|weltkriegs|guerra mundial|guerra mondiale|guerre mondiale|ministro|minister|"
    r"wereldoorlog|världskriget|verdenskrig|миров\w+ войн\w+|wojn\w+ światow\w+"
)
"""What an ordinal of another language may stand before without counting documents."""
COMPARING = (
    "compare contrast difference differ merge combine vergleiche vergleich comparer comparez "
    "compara comparar comparem confronta vergelijk porównaj сравни сравните karşılaştır"
)
