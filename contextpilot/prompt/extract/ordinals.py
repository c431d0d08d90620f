"""Words by which a prompt counts its documents, by language, and orders that answers follow.

English ordinals count documents only beside a word for one ("the second document", "the last
one"), as questions are full of them otherwise. In other languages any ordinal keeps the order: a
missed hit is forgiven.
"""

from __future__ import annotations

NOUNS = (
    r"(?:documents?|docs?|passages?|sources?|contexts?|chunks?|snippets?|(?:search )?results?|"
    r"references?|memor(?:y|ies)|excerpts?|evidence|articles?|files?|texts?|pages?|paragraphs?|"
    r"entr(?:y|ies)|items?|hits?|attachments?|papers?|reports?|sections?|clauses?|parts?|pieces?|"
    r"records?|rows?|facts?|citations?|contracts?|letters?|papers?|stor(?:y|ies)|images?|options?|"
    r"candidates?|elements?|links?|ones?)"
)
ORDINALS = (
    r"(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|last|"
    r"final|penultimate|former|latter|previous|preceding|next|middle|top|bottom|earlier|later|"
    r"initial|i-?th|n-?th|\d{1,3}(?:st|nd|rd|th))"
)
NUMBER_WORDS = r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)"

ENGLISH_POSITIONS = (
    rf"\b{ORDINALS}(?:[ -](?:and|or|to|,|through)[ -](?:the )?{ORDINALS})?"
    rf"(?: (?:two|three|four|few|\d{{1,2}}|of|these|those|the|my|your|retrieved|given|"
    rf"listed)){{0,4}}"
    rf" {NOUNS}\b",
    # "the second?", "the last and": a position that stands for a document
    rf"\bthe {ORDINALS}(?<!next)(?<!top)(?<!later)(?<!final)(?<!middle)"
    r"(?=[ ]?(?:[?.!,;:)]|$)| (?:and|or|vs\.?|versus|with|says?|claims?|mentions?|states?|than)\b)",
    r"\b(?:merge|compare|contrast|summari[sz]e|quote|translate|skip|ignore|read|cite) the "
    rf"{ORDINALS}\b",
    r"\b\d{1,3}(?:st|nd|rd|th) (?:and|or|one|of these)\b",
    rf"\b(?:the|each|every) {NOUNS} (?:above|below|before|after) (?:it|that|this)\b",
    r"\bthe one (?:above|below|before|after)\b",
    rf"\b{NOUNS} (?:at the )?(?:top|bottom|beginning|end) of (?:the|this) list\b",
)
FOREIGN_POSITIONS = (
    # German, Dutch, Scandinavian
    r"\b(?:erste|zweite|dritte|vierte|f(?:ü|ue)nfte|sechste|siebte|achte|letzte|vorletzte|"
    r"vorige|n(?:ä|ae)chste|obere|untere)(?:[nrsm]|)\b",
    r"\b(?:eerste|tweede|derde|vierde|vijfde|laatste|vorige|voorlaatste)\b",
    r"\b(?:första|tredje|fjärde|femte|sista|første|fjerde|sidste|siste|de[nt] (?:andra|andre|"
    r"anden|andet))\b",
    # French, Spanish, Portuguese, Italian, Romanian
    r"\b(?:le|la|les|du|au|aux|des|ce|cette|de la|à la) (?:premi[eè]re?s?|seconde?s?|"
    r"derni[eè]re?s?)\b",
    r"\b(?:deuxi[eè]me|troisi[eè]me|quatri[eè]me|cinqui[eè]me|avant-dernier|pr[eé]c[eé]dent)\w*",
    r"\bl[ea] \d{1,2}(?:er|re|e|[èe]me)\b",
    r"\b(?:el primer|primero|primera|segundo|segunda|el tercer|tercero|tercera|cuarto|cuarta|"
    r"quinto|"
    r"quinta|[úu]ltim[oa]s?|pen[úu]ltim[oa]|primeir[oa]s?|terceir[oa]|quart[oa])\b",
    r"\b(?:prim[oa]|second[oa]|terz[oa]|quart[oa]|quint[oa]|ultim[oa]|penultim[oa])\b",
    r"\b(?:primul|prima|al doilea|a doua|al treilea|ultimul|ultima)\b",
    # Slavic, Greek, Turkish, Finnish, Hungarian
    r"\b(?:перв|втор|трет|четв[её]рт|пят|последн|предпоследн|предыдущ|перш|друг(?:ий|а|е|ого|"
    r"у)\b|останн)\w*",
    r"\b(?:pierwsz|drugi|drugą|drugiego|trzeci|czwart|piąt|ostatni|poprzedni|prvn|první|druh|třetí|"
    r"čtvrt|posledn)\w*",
    r"\b(?:πρώτ|δεύτερ|τρίτ|τέταρτ|τελευταί)\w*",
    r"\b(?:birinci|ikinci|üçüncü|dördüncü|beşinci|sonuncu|önceki)\w*|\bson (?:belge|metin|"
    r"kaynak)\w*",
    r"\b(?:ensimmäi|toise|toinen|kolma|neljä[ns]|viimei|első|második|harmadik|negyedik|utolsó)\w*",
    # Arabic, Hebrew, Hindi
    r"(?:الأول|الأولى|الثاني|الثانية|الثالث|الرابع|الخامس|الأخير|السابق|הראשון|השני|השלישי|"
    r"הרביעי|האחרון)",
    r"(?:पहल[ाेी]|दूसर[ाेी]|तीसर[ाेी]|चौथ[ाेी]|पाँचव|आख़?िरी|अंतिम|पिछल[ाेी])",
    # Chinese, Japanese, Korean
    r"第\s?[一二三四五六七八九十两百\d]+|最后|最末|倒数|前一|后一|上一[个篇份条段]|下一[个篇份条段]|前者|后者|首个|首篇",
    r"[一二三四五六七八九\d]\s?(?:つ目|番目|個目|件目|本目|枚目)|最後|最初|前者|後者|前の文書|次の文書",
    r"(?:첫|두|세|네|다섯)\s?번째|\d\s?번째|마지막|첫째|둘째|셋째|전자|후자",
    # Vietnamese, Indonesian, Thai
    r"\bthứ (?:nhất|hai|ba|tư|năm|\d)|cuối cùng|đầu tiên|\b(?:pertama|kedua|ketiga|keempat|"
    r"terakhir)\b",
    r"ที่(?:หนึ่ง|สอง|สาม|สี่|ห้า|\d)|สุดท้าย",
)
NUMBERED_NOUNS = (
    r"(?:documents?|docs?|passages?|sources?|contexts?|chunks?|snippets?|(?:search )?results?|"
    r"references?|memor(?:y|ies)|excerpts?|evidence|articles?|files?|texts?|pages?|paragraphs?|"
    r"items?|facts?|citations?|clauses?|sections?|candidates?|options?|entr(?:y|ies)|rows?|"
    r"dokument(?:e|en|et)?|quellen?|textstellen?|documento?s?|fuentes?|fontes?|fonti|fonte|"
    r"document[io]|"
    r"documenten|bronnen|dokument\w*|źródł\w*|belge\w*|kaynak\w*|документ\w*|источник\w*|tài liệu)"
)
NUMBERED_HAN = (
    r"(?:文档|文件|文章|资料|段落|来源|文書|資料|ドキュメント|記事|문서|자료)\s?(\d{1,3})"
)
COMPARING = (
    r"(?:compare|contrast|between|difference|differ|merge|combine|vergleich\w*|zwischen|"
    r"compare[rz]?|"
    r"entre|compara\w*|confronta\w*|tra|vergelijk|porównaj|сравни\w*|между|karşılaştır)"
)
COMPARED_HAN = r"(?:比较|比較|对比|對比|비교)"
ORDER_ASKED = (
    r"\b(?:in|keep|preserve|maintain|follow)\w* (?:exactly )?(?:the )?(?:same|given|original|"
    r"input|listed|"
    r"presented|right|document) order\b",
    r"\b(?:the|their|its) order (?:in which (?:they|the|these)|they|matters|given)\b|"
    r"\bsame order\b",
    r"\border of (?:the |these |all )?(?:documents|passages|sources|segments|items|importance|"
    r"relevance)\b",
    r"\b(?:sorted|ordered|ranked|listed) (?:from|by|in|chronologically|according|best|most|"
    r"newest|oldest)\b",
    r"\b(?:newest|oldest|earliest|latest|most recent|best|most relevant) (?:ones? )?(?:first|to|"
    r"on top)\b",
    r"\b(?:best|most relevant|newest|oldest) first\b",
    r"\b(?:re-?rank|rerank(?:ing|er)?|rank(?:ing)?) (?:the|these|each|all|them|of|\d)",
    r"\brank (?:passages|documents)\b|\blistwise\b|\[\d+\] ?> ?\[\d+\]",
    r"\b(?:one|a|single) (?:score|grade|number|integer|label|word|line|sentence|answer|verdict|"
    r"rating|json object)"
    r" (?:per|for each|on each|for every) \w+",
    r"\b(?:score|grade|rate|label|judge|classify|translate|rewrite|number) (?:each|every|all|"
    r"the following)\b",
    r"\bfor (?:each|every) (?:of the )?(?:\w+ )?(?:document|passage|source|result|chunk|snippet|"
    r"text|item|"
    r"candidate|article|excerpt)s?\b,? (?:\w+ ){0,2}(?:output|write|answer|return|give|print|"
    r"decide|say|"
    r"assign|respond|reply|yes)",
    r"\b(?:i|n)-?th (?:element|item|entry|line|document|passage)\b|\brespectively\b|"
    r"\bline by line\b|\bone per \w+|\barray of (?:\w+ ){0,3}(?:scores|labels|grades|verdicts|"
    r"booleans)\b",
    r"\b(?:numbers?|ind(?:ex|ices|exes)|identifiers?|ids?|positions?) (?:of (?:the|all|each|"
    r"every|those) "
    r"|next to|only\b)",
    r"\b(?:give|return|output|reply|respond|answer|pick|choose)(?: only)?(?: with|"
    r" by)? (?:\w+ ){0,3}"
    r"(?:index|indices|numbers?|position|rank)\b(?! of (?:sentences|words|tokens))",
    r"\bwhich (?:of (?:the|these) )?(?:following )?(?:two |three )?(?:passage|document|source|"
    r"answer|response|"
    r"candidate|image|option|text|summary)s? (?:is|are|was|answers?|shows?|best|better|contains?|"
    r"number|do|does)\b",
    r"\bprefer (?:the )?(?:earlier|later|former|first|last|documents? (?:that come|at))\b",
    r"\bearlier (?:documents?|passages?|sources?|ones?)\b|\blater (?:documents?|passages?|"
    r"sources?|ones?)\b",
    r"\bchronological(?:ly)?\b|\bcontinue (?:the|this) (?:story|text|conversation)\b",
    r"\bclick\(|\belement (?:index|id|number)\b",
    r"\b(?:order|sequence) of (?:events|the (?:documents|passages|steps|turns))\b",
    r"(?:按照?顺序|依次|逐一|同样的顺序|相同的?顺序|同じ順|順番に|순서대로)",
    r"\b(?:gleichen?|derselben|dieser) reihenfolge\b|\bm[êe]me ordre\b|\bmismo orden\b|"
    r"\bmesma ordem\b"
    r"|\bstesso ordine\b|\b(?:том же|порядке)\b|\bzelfde volgorde\b|\baynı sıra\w*",
)
"""Answers that are told by the place of a block, or follow the order of the blocks."""
