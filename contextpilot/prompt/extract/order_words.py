"""Words that may speak of a place, a direction or a sequence, in some thirty languages.

They keep a list as it is unless the blocks themselves speak so of what the question names ("the
first president"): a word too many costs hits where it is not excused, one too few an answer.

A word that ends with "." stands for itself alone, others for all that begin so.
"""

from __future__ import annotations

ORDER_WORDS = (
    # English
    "before. after. afterwards above. below. beneath. underneath. between. inbetween next. "
    "prior. preced previous follow first. firstly last. lastly final. finally initial. "
    "initially begin start. starts. starting end. ends. ending. opens. opening. closes. "
    "closing. top. topmost uppermost bottom middle. midst. order. ordering ordered. sequen "
    "list. lists. listing listed. rank position spot. slot. turn. turns. until. onward. "
    "onwards row. rows. column lead. leading. leads. tail. head. heads. rear. outset "
    "neighbour neighbor adjacent ahead. behind. earlier. earliest. later. latter. latest. "
    "former. penultimate half. halves rest. remaining. remainder pile. stack. batch. reverse "
    "backward forward. consecutive. successive. successor predecessor series. chronolog "
    "numbered. numbering. renumber number. numbers. index indices indexes nth odd. even. "
    "alternate alternating pair. pairs. flank surround scroll sandwiched nearest. closest. "
    "upper. lower. farther. further. second. third. fourth. fifth. sixth. seventh. eighth. "
    "ninth. tenth. lineup queue timeline swap shuffle permut revers rearrange reorder skip "
    "continue. continues. continuing. progress throughout back. "
    "front. onset aft. begun concluding conclude wrap. kick. kicks. outer. inner. verdict "
    "score. scores. grade. grades. vote. votes. label. labels. tick. each. every. "
    "respectively alphabet ascending descending sort. sorted. arrange align aligned. parallel "
    "array. boolean positional ordinal cardinal juxtapos subsequent downward upward verbatim "
    "tally count. bitmask bitstring bits. binary. vector. tuple early. late. halfway. side. "
    "sides. midway. wherever everywhere bookend opener. closer. rises. leftmost rightmost "
    "left. right. far. comma. separated. bulleted. "
    # German, Dutch
    "später frühere "
    "vorher nachher danach davor zuvor hinten vorne vorn. oben. unten. zuoberst zuunterst "
    "oberhalb unterhalb mittler mitte. anfang anfäng ende. endet schluss zuletzt zuerst "
    "beginn fängt fang. nacheinander hintereinander reihe. reihum reihenfolge rückwärts "
    "vorwärts vor. nach. zwischen folg. folgt folgend vorherg vorang nachfolg rang. stelle. "
    "platz. spitze. abschließ vorletzt letzt. letzte erste. ersten. erster. erstes. "
    "übernächst nächst liste. jede. jeden. jeder. jedes. jeweils noten. nummer einzeln. "
    "oberst unterst übrig. hälfte daneben neben. benachbart umgekehrt sortier vorgänger "
    "nachfolger kopf. vlak. boven onder. onderaan bovenaan achteraan vooraan tussen volgorde "
    "volgend vorige begin. eind einde. laatste eerste. rij. lijst achteruit achterstevoren "
    "daarna daarvoor telkens elk. elke. beurt naast. midden. middelste plaats. direkt. "
    "direkte. sluit. "
    # French, Spanish, Portuguese, Italian, Romanian, Catalan
    "avant. après. ensuite suivant suivent précéd dessus dessous entre. début commence fin. "
    "finit dernier dernière derniers dernières premier première ordre. tête. queue. haut. "
    "bas. milieu position. place. ligne. inverse rebours remont descend chaque. chacun. "
    "numéro vient. voisin avoisin encadr moitié clôt clôtur ferme. ouvre. antes. después "
    "despues. siguiente sigue. anterior posterior encima debajo arriba abajo principio inicio "
    "comienz empieza empezando último última orden. lista. fila. puesto. lugar. turno medio. "
    "mitad cada. nota. notas. número número. detrás delante cabeza. cola. inverso revés tras. "
    "vecino cierra. abre. penúltim fecha. encerra. depois. seguinte seguir. segue. topo. "
    "fundo. começo. começa comece início fim. ordem. acima. abaixo. meio. metade atrás "
    "frente. primeiro. primeira. seguir prima. dopo. seguente seguono precede sopra. sotto. "
    "cima. fondo. inizio comincia. inizia. finale. ordine. elenco. posizione. posto. turno. "
    "mezzo. metà ogni. ciascun voto. numero. penultim ultimo. ultima. primo. chiude. apre. "
    "ritroso rovescio parti. partendo înainte. după. următor jos. capăt sfârșit început "
    "fiecare abans. després següent dalt. baix. "
    # Scandinavian, Finnish, Hungarian
    "slutt. lige. innan. före. efter. ovan. ovanför nedan. nedanför mellan. nästa. näst. "
    "först. första sista. slutet. slut. början. börja börjar ordning. ordningen bakifrån "
    "nerifrån nedifrån uppifrån överst nederst mitten. plats. rad. raden. varje. varannan "
    "listan baklänges föregå följande därefter strax. før. etter. øverst mellem. mellom. "
    "næste neste. sidst. sidste begynn slutning rækkefølge rekkefølge bagfra bakfra nedefra "
    "nedenfra ovenfra oppefra midten. hver. hvert. ennen. jälkeen. edell seuraav ensin. "
    "ensimmäi viimei lopu loppu. alku. alusta. alhaal ylhää ylin. alin. järjesty keski väli. "
    "välissä jokai előtt. után. előző következő első. utolsó vége. végén. végéről eleje. "
    "elején. elejéről sorrend fölött. alatt. között. közép középső legfelső legalsó hátul "
    "felül. alul. minden. egyenként "
    # Slavic
    "перед. после. следу предыдущ выше. ниже. между. начал начни начина конец. конца. конце. "
    "концу. поряд сперва сначала затем. потом. верх сверху низ. внизу. снизу середин список. "
    "списка. списке. первы перва перво перву последн предпоследн очеред идёт. идет. соседн "
    "каждо кажды каждая. обратн назад. номер. место. месте. строк пере. стоит. заверш замыка "
    "открыва закрыва після. найвищ найниж наступн попередн вище. нижче. між. початк кінц "
    "кінець порядк спочатку останн кожно przed. przedtem następn poprzedni powyżej poniżej "
    "między początk koniec. końc zacznij zaczyna kolejn kolei ostatni pierwsz góry. górze. "
    "dołu. dole. środk liście. każd odwrot tył. zamyka otwiera tyłu před. hned. následuj "
    "předchoz výše níže nad. pod. mezi. začátk začni konec. konce. pořad posledn první nahoře "
    "zdola. shora. uprostřed každ pozadu. prije. poslije nakon. iznad. ispod. između. početk "
    "počni kraj. kraja. kraju. redosl redom. zadnj prvi. svak следва преди. след. края. "
    "начало. "
    # Greek, Turkish, Indonesian, Vietnamese, Swahili
    "πριν. μετά. μετα. επόμεν προηγούμεν πάνω. κάτω. μεταξύ αρχή. αρχίζ τέλος. τέλους. σειρά. "
    "τελευτα πρώτ κάθε. μέση. önce. önceki sonra. sonraki sondan. baştan. başın sonun üst. "
    "üstte üstün üstteki altta altın alttaki arasında. ortada ortas sıra. sıras sırayla başla "
    "ilk. tersten hemen. kapanış açılış sebelum sesudah setelah berikut berada atas. bawah. "
    "tengah. awal. akhir terakhir pertama urut daftar mulai setiap masing antara trước. sau. "
    "trên. dưới. giữa. đầu. cuối. thứ. mỗi. kabla. baada. juu. chini. mwanzo mwisho "
)
FAR_ORDER_WORDS = (
    # Chinese, Japanese
    r"前|后面|后一|之后|以后|后往|後|最上|最下|上一|上面|下一|下面|顶|顺序|順|排在|排名|排第|开头|開頭|结尾|末尾|倒|逐|依次|从头|上から|下から|次に|"
    r"次の|その次|最初|最後|冒頭|末尾|一番|番目|真ん中|中间|之间|並び|逆|隣|相邻|接着|紧接|压轴|压卷|首先|每|各|それぞれ|終わり|始まり|始め|直後|トリ|"
    r"締め|上の|下の|列表|"
    # Korean
    r"앞|뒤|다음|이전|바로|맨|위에|아래|순서|차례|거꾸로|처음|마지막|중간|사이|먼저|나중|번째|각각|목록|끝|"
    # Arabic, Persian, Hebrew
    r"قبل|بعد|أعلى|اعلى|أسفل|الأسفل|فوق|تحت|أول|اول|آخر|الأخير|التالي|السابق|ترتيب|بالترتيب|"
    r"بداية|البداية|نهاية|النهاية|بين|وسط|كل نص|پیش|پس از|بالا|پایین|ترتیب|ابتدا|انتها|"
    r"آخرین|اولین|لפני|לפני|אחרי|מעל|מתחת|ראשון|אחרון|הבא|הקודם|סדר|התחלה|סוף|אמצע|בין|"
    r"כל אחד|"
    # Hindi, Bengali, Thai
    r"पहल|बाद|ऊपर|नीचे|अगल|पिछल|आख़िर|आखिर|अंतिम|क्रम|शुरू|अंत|बीच|हर एक|प्रत्येक|আগে|পরে|"
    r"উপরে|নিচে|শুরু|শেষ|ক্রম|মাঝ|ก่อน|หลัง|ถัดไป|แรก|สุดท้าย|ลำดับ|บน|ล่าง|กลาง|ท้าย|ต้น"
)
"""Scripts whose words are searched wherever they stand, since they are joined or take prefixes."""

PLAIN_PHRASES = (
    r"(?:first|last|second|given|middle|family) names?|first[- ]aid|second[- ]hand|prior knowledge|"
    r"surrounded by(?= -)|"
    r"premier ministre|in the end(?! of)|(?:last|first|second|great|civil) war|(?:last|next|"
    r"each|every|per) (?:night|week|month|year|summer|winter|spring|autumn|fall|decade|"
    r"century|season|day|hour|time|cent|person|capita|morning|evening|weekend|monday|"
    r"tuesday|wednesday|thursday|friday|saturday|sunday)|at (?:least|last|first)|(?:no|"
    r"any) (?:longer|further)|until (?:when|what time|which (?:year|day|date|month|hour))|"
    r"numbers? of|in order to|each other|(?:take|takes|took|taking|"
    r"taken) place|place (?:them|these|it|your|the|any|all)(?! in )|place \w+ in(?= \w*tags)|"
    r"even (?:if|when|though|more)|phone numbers?|\w+ up with|(?:set|end|"
    r"pick|grow|grew|made|make|sign|back|broke|come|came) up|(?:shut|broke|cut|slow|go|"
    r"went) down|(?:go|went|get|got) through|(?:come|came|get|got|went|pay|give|bring|"
    r"go) back(?! (?:one|two|three|a|from))|(?:how|so|by) far|far (?:from|away)|"
    r"side[- ]effects?|list (?:the|all|some|any)|(?:differences?|relation\w*|links?|"
    r"connections?|comparison|conflicts?|correlation|war|match|interactions?|distance|"
    r"border|treaty|agreement) between|top of|second hand|half (?:a|an)|years? (?:before|"
    r"after|later)|(?:before|after) (?:that|he|she|it|i|we|you|they|(?:1|2)\d{3}|"
    r"\w+ing (?:an?|the|my|your|his|her|its|our|their|it|them|this|that|all|any|\w+s)\b)|"
    r"between (?:1|2)\d{3}|(?:the )?following (?:question|query|request|problem|reference|document|"
    r"source|passage|excerpt|snippet|context|search result)s?|"
    r"(?:minutes?|hours?|days?|weeks?|months?|years?) (?:late|early)|"
    r"(?:information|contexts?|sources?|documents?|passages?|results?) (?:(?:is|are) )?(?:given |"
    r"listed |provided |found )?(?:below|above)(?! (?:it|that|this|the)\b)|"
    r"(?:the )?above (?:information|contexts?|sources?|documents?|knowledge|passages?|"
    r"results?|is the (?:knowledge|context)\w*)|end of (?:the |a |this |last )?(?:year|"
    r"month|week|day|season|world|war|life|century)|zum ersten mal|erste hilfe|nach hause|"
    r"vor (?:allem|ort)|por primera vez|per la prima volta|pour la première fois|до сих пор|"
    r"tot nu toe"
)
"""What is said so of anything; read before the words."""

META_WORDS = (
    "entry entries item items passage passages snippet snippets text texts paragraph "
    "paragraphs excerpt excerpts document documents article articles hit hits result results "
    "section sections abstract abstracts message messages page pages card cards clause "
    "clauses bullet lines letters checklist table blurb blurbs collection contents print "
    "output return repeat quote translate drop merge classify summarise summarize retell read "
    "present headline verdict title titles topic topics proofread copy annotate compress jump "
    "pick mark gist everything retriever relevant fill them here given sent pasted shown "
    "introduced named told appear appears appearance meet reader texte absatz abschnitt fasse "
    "extrait extraits résume relis texto textos fragmento resumen resume brano testo fragment "
    "tekst текст отрывок перескажи "
    "vertaal herhaal übersetze übersetz wiederhole traduis traduisez répète traduce traduzca "
    "repite traduci ripeti traduza repita översätt upprepa oversæt oversett gentag переведи "
    "повтори przetłumacz powtórz çevir tekrarla fordítsd ismételd käännä přelož terjemahkan "
    "dịch μετάφρασε переклади tradu уривок metin metni "
)
"""What speaks of texts and what to do with them, rather than of what stands in them."""

PLAIN_WORDS = (
    # English
    "a an the and or but of to in on at by for from with about into as is are was were be "
    "been being am do does did done have has had having can could may might must shall should "
    "will would not no nor so than then too very just also only own same such both few more "
    "most other some any all each which what who whom whose where when why how that this "
    "these those there here it its it's i me my we our us you your he him his she her they "
    "alles alle tout toute todo tutto tudo allt всё все wszystko "
    "write draft compose short brief polite "
    "them their if because while during against again once out off up down s t don isn aren "
    "wasn didn doesn won can't please tell give explain describe say says said know known get "
    "got make made one ones many much let lets like want need find use used using there's "
    "what's "
    # German
    "der die das den dem des ein eine einen einem einer eines und oder aber von zu im auf aus "
    "bei mit für über ist sind war waren wird werden wurde wurden hat haben hatte kann können "
    "darf muss soll sollen nicht kein keine auch nur noch schon als wie wer wen wem wo wann "
    "warum wieso welche welcher welches welchen es er sie ich du wir ihr man sich mein dein "
    "sein ihre dass wenn viel viele mehr sehr zum zur bis "
    # French
    "le la les l un une de d au aux et ou mais dans en sur par pour avec sans est sont était "
    "été être ont avait peut ne pas plus que qu qui quoi quel quelle quels quelles où quand "
    "comment pourquoi combien ce cet cette ces il elle ils elles je tu nous vous se son sa "
    "ses leur leurs y à si c n "
    # Spanish
    "el los las una unos unas del al o u pero con sin por para era fue ser está están ha han "
    "hay qué quién quiénes cuál cuáles cómo cuándo cuánto cuánta cuántos cuántas dónde su sus "
    "lo sí más muy este esta estos estas ese esa desde "
    # Italian
    "gli uno di della dei delle dello degli dell alla ai alle dal dalla nel nella nei nelle "
    "sul sulla per e ma è sono hanno che chi cosa come quando quanto quanta quanti quante "
    "dove perché quale quali non più anche ogni oggi "
    # Portuguese
    "os uma da dos em na nos nas com sem mas é são foi tem têm quem qual quais como quantos "
    "quantas onde porque porquê não muito ao aos às seu sua "
    # Dutch
    "het een maar op aan bij met van voor uit naar te zijn wordt worden werd heeft hebben kan "
    "kunnen moet niet geen ook nog wat welke welk hoe waarom wanneer waar hoeveel dat deze "
    "dit ik hij zij "
    # Swedish
    "och eller men på av till för från med utan om är var varit blir har hade ska inte ett "
    "det som vad vem vilka vilken vilket hur varför när många mycket sig "
    # Russian
    "и или но в во на с со из к ко по за от до о об у не ни же ли бы это этот эта эти тот как "
    "что кто какой какая какие каком где когда почему сколько чем чего был была было были "
    "есть он она они его её их я мы вы "
    # Polish
    "lub ale w z ze od po za nie jest są był była było być mają co kto jak gdzie kiedy "
    "dlaczego ile jaki jaka jakie czy się ten ta "
    # Turkish
    "ve veya ama bir bu şu için nasıl neden niçin kim hangi kaç nerede zaman kadar mi mı mu "
    "mü yok olarak "
    # Arabic
    "في من على إلى عن مع هذا هذه ذلك التي الذي ما ماذا كم كيف لماذا متى أين هل هو هي و أو لا "
    "كل مم "
    # Danish, Norwegian, Finnish, Hungarian, Czech, Romanian
    "hvad hvem hvilken hvilket hvilke hvordan hvorfor hvornår hvor af til ikke hva mikä mitä "
    "kuka missä milloin miksi miten kuinka onko ovat ja tai ki hol mikor miért hogyan mennyi "
    "hány az egy és vagy kdo kde kdy proč kolik jsou cine unde când cum cât cei sunt și din "
    "pe care "
    # Greek, Ukrainian, Hebrew, Persian, Hindi, Vietnamese, Indonesian, Korean
    "τι ποιος ποια ποιο πού πότε γιατί πώς πόσο είναι και το η ο του της με για що хто де "
    "коли чому як скільки який яка яке які є та або із від מה מי איפה מתי למה איך כמה האם "
    "איזה באיזה יש אין של את על הוא היא چه که کجا چرا چگونه چند است در از به क्या कौन किस "
    "किसने सा सी कहाँ कब क्यों कैसे कितना कितने है हैं में का की के से को gì nào đâu khi sao "
    "bao nhiêu là và của có không trong cho apa siapa mana kapan mengapa "
    "언제 어디 어디서 어디에 누가 누구 "
    "무엇 무엇을 무엇이 뭐 왜 어떻게 얼마나 얼마 몇 어느 어떤 "
    "bagaimana berapa adalah dan ke dari yang untuk dengan "
)
"""What any question holds: says nothing of its subject."""
