"""Short texts in many languages and kinds, written for this project: a few hundred characters."""

TEXTS = {
    "English": (
        "The harbour master keeps a small notebook in which every ship is entered by hand. In the "
        "morning she compares it with the list on her screen, and when the two disagree she "
        "trusts the notebook. Last winter a storm tore three moorings loose before sunrise; "
        "nobody was hurt, but the repairs took until spring and cost more than the council had "
        "set aside. Since then the crew checks the ropes twice a day and writes down the wind, "
        "the tide and the name of whoever looked."
    ),
    "German": (
        "Die Hafenmeisterin führt ein kleines Heft, in das jedes Schiff von Hand eingetragen wird. "
        "Am Morgen vergleicht sie es mit der Liste auf ihrem Bildschirm, und wenn beide einander "
        "widersprechen, glaubt sie dem Heft. Im letzten Winter riss ein Sturm vor Sonnenaufgang "
        "drei Festmacherleinen los; verletzt wurde niemand, aber die Ausbesserungen dauerten "
        "bis zum Frühjahr und überstiegen die Rücklagen der Gemeinde."
    ),
    "French": (
        "La capitaine du port tient un petit carnet où chaque navire est inscrit à la main. Le "
        "matin, elle le compare à la liste affichée sur son écran et, lorsque les deux se "
        "contredisent, c'est au carnet qu'elle se fie. L'hiver dernier, une tempête a arraché "
        "trois amarres avant le lever du soleil ; personne n'a été blessé, mais les réparations "
        "ont duré jusqu'au printemps et ont coûté plus que la commune n'avait prévu."
    ),
    "Spanish": (
        "La capitana del puerto lleva un cuaderno pequeño en el que cada barco se anota a mano. "
        "Por la mañana lo compara con la lista de su pantalla y, cuando no coinciden, confía en "
        "el cuaderno. El invierno pasado una tormenta arrancó tres amarras antes del amanecer; "
        "nadie resultó herido, pero las reparaciones duraron hasta la primavera y costaron más de "
        "lo que el ayuntamiento había reservado."
    ),
    "Polish": (
        "Kapitan portu prowadzi mały zeszyt, do którego każdy statek wpisuje się ręcznie. Rano "
        "porównuje go z listą na ekranie, a gdy jedno przeczy drugiemu, ufa zeszytowi. Zeszłej "
        "zimy sztorm zerwał przed świtem trzy cumy; nikomu nic się nie stało, lecz naprawy trwały "
        "aż do wiosny i kosztowały więcej, niż gmina odłożyła na ten cel."
    ),
    "Turkish": (
        "Liman sorumlusu her geminin elle yazıldığı küçük bir defter tutuyor. Sabahları bunu "
        "ekranındaki listeyle karşılaştırıyor ve ikisi uyuşmadığında deftere güveniyor. Geçen kış "
        "bir fırtına güneş doğmadan önce üç halatı kopardı; kimse yaralanmadı, ancak onarım bahara "
        "kadar sürdü ve belediyenin ayırdığından daha pahalıya geldi."
    ),
    "Vietnamese": (
        "Người phụ trách bến cảng giữ một quyển sổ nhỏ, trong đó mỗi con tàu được ghi bằng tay. "
        "Buổi sáng bà so sánh sổ với danh sách trên màn hình, và khi hai bên không khớp thì bà tin "
        "quyển sổ. Mùa đông năm ngoái một cơn bão đã giật đứt ba dây neo trước lúc mặt trời mọc; "
        "không ai bị thương nhưng việc sửa chữa kéo dài đến tận mùa xuân."
    ),
    "Russian": (
        "Начальница порта ведёт небольшую тетрадь, в которую каждый корабль записывают от руки. "
        "Утром она сверяет её со списком на экране, и если они расходятся, верит тетради. Прошлой "
        "зимой буря ещё до рассвета сорвала три швартова; никто не пострадал, но ремонт затянулся "
        "до весны и обошёлся дороже, чем отложила община."
    ),
    "Ukrainian": (
        "Начальниця порту веде невеликий зошит, куди кожне судно записують від руки. Уранці вона "
        "звіряє його зі списком на екрані, і якщо вони не збігаються, вірить зошиту. Минулої зими "
        "буря ще до світанку зірвала три швартови; ніхто не постраждав, але ремонт тривав до весни."
    ),
    "Greek": (
        "Η λιμενάρχης κρατά ένα μικρό τετράδιο όπου κάθε πλοίο γράφεται με το χέρι. Το πρωί το "
        "συγκρίνει με τον κατάλογο στην οθόνη της και, όταν τα δύο διαφωνούν, εμπιστεύεται το "
        "τετράδιο. Τον περασμένο χειμώνα μια καταιγίδα έσπασε τρία σχοινιά πριν από την ανατολή· "
        "κανείς δεν τραυματίστηκε, αλλά οι επισκευές κράτησαν ως την άνοιξη."
    ),
    "Arabic": (
        "تحتفظ مديرة الميناء بدفتر صغير تُسجَّل فيه كل سفينة بخط اليد. في الصباح تقارنه بالقائمة "
        "الظاهرة على شاشتها، وإذا اختلف الاثنان وثقت بالدفتر. في الشتاء الماضي قطعت عاصفة ثلاثة "
        "حبال قبل شروق الشمس؛ لم يُصب أحد، لكن الإصلاحات استمرت حتى الربيع وكلفت أكثر مما خصصه "
        "المجلس."
    ),
    "Hebrew": (
        "מנהלת הנמל מחזיקה מחברת קטנה שבה רושמים כל ספינה ביד. בבוקר היא משווה אותה לרשימה שעל "
        "המסך, וכאשר השתיים אינן תואמות היא מאמינה למחברת. בחורף שעבר קרעה סופה שלושה חבלים לפני "
        "הזריחה; איש לא נפגע, אבל התיקונים נמשכו עד האביב ועלו יותר ממה שהמועצה הקצתה."
    ),
    "Hindi": (
        "बंदरगाह की प्रमुख एक छोटी कॉपी रखती हैं जिसमें हर जहाज़ हाथ से लिखा जाता है। सुबह वह उसे "
        "अपने परदे पर दिख रही सूची से मिलाती हैं और जब दोनों में अंतर हो तो कॉपी पर भरोसा करती हैं। "
        "पिछली सर्दियों में एक तूफ़ान ने सूरज निकलने से पहले तीन रस्सियाँ तोड़ दीं; किसी को चोट नहीं "
        "आई, पर मरम्मत वसंत तक चलती रही।"
    ),
    "Thai": (
        "หัวหน้าท่าเรือมีสมุดเล่มเล็กที่จดชื่อเรือทุกลำด้วยมือ ตอนเช้าเธอจะเทียบกับรายชื่อบนหน้าจอ "
        "และเมื่อทั้งสองไม่ตรงกันเธอจะเชื่อสมุด ฤดูหนาวปีที่แล้วพายุพัดเชือกขาดสามเส้นก่อนพระอาทิตย์ขึ้น "
        "ไม่มีใครบาดเจ็บ แต่การซ่อมแซมกินเวลาจนถึงฤดูใบไม้ผลิ"
    ),
    "Chinese": (
        "港口主管有一本小册子，每一艘船都由人手登记在里面。早上她把它和屏幕上的名单对照，"
        "两者不一致时，她相信册子。去年冬天，一场风暴在日出前扯断了三根缆绳；没有人受伤，"
        "但是修理工作一直持续到春天，花费也超过了镇里预留的款项。从那以后，船员每天检查两次绳索，"
        "并且记下风向、潮水和检查人的姓名。"
    ),
    "Japanese": (
        "港の責任者は、すべての船を手書きで記した小さな帳面を持っている。朝になると画面の一覧と"
        "見比べ、食い違いがあれば帳面のほうを信じる。去年の冬、嵐が夜明け前に三本の綱を引きちぎった。"
        "けが人は出なかったが、修理は春まで続き、町が用意した予算を超えてしまった。それ以来、"
        "乗組員は一日に二度ロープを調べ、風と潮と点検した人の名前を書き残している。"
    ),
    "Korean": (
        "항구 책임자는 모든 배를 손으로 적어 두는 작은 공책을 가지고 있다. 아침마다 화면의 목록과 "
        "비교하고, 둘이 다르면 공책을 믿는다. 지난겨울 폭풍이 해가 뜨기 전에 밧줄 세 개를 끊어 "
        "놓았다. 다친 사람은 없었지만 수리는 봄까지 이어졌고 시에서 마련한 예산을 넘었다."
    ),
    "Python": (
        "def moorings_to_check(log: dict[str, list[Entry]], now: float) -> list[str]:\n"
        '    """Return the names of moorings nobody has looked at for half a day."""\n'
        "    overdue = []\n"
        "    for name, entries in sorted(log.items()):\n"
        "        last = max((entry.at for entry in entries), default=0.0)\n"
        "        if now - last > 12 * 3600 and not entries[-1].is_closed:\n"
        '            overdue.append(f"{name} ({now - last:.0f} s)")\n'
        "    return overdue\n\n\n"
        "class Entry(NamedTuple):\n"
        "    at: float\n"
        "    wind_kn: int\n"
        "    tide_cm: int\n"
        "    is_closed: bool = False\n"
    ),
    "C": (
        "static int count_overdue(const struct mooring *list, size_t n, time_t now)\n{\n"
        "\tint overdue = 0;\n\n\tfor (size_t i = 0; i < n; i++) {\n"
        "\t\tif (list[i].flags & MOORING_CLOSED)\n\t\t\tcontinue;\n"
        "\t\tif (now - list[i].checked_at > CHECK_INTERVAL_S)\n\t\t\toverdue++;\n\t}\n"
        "\treturn overdue;\n}\n\nint main(int argc, char **argv)\n{\n"
        '\tif (argc < 2) {\n\t\tfprintf(stderr, "usage: %s log\\n", argv[0]);\n\t\treturn 1;\n\t}\n'
        "\treturn run(argv[1]) ? EXIT_SUCCESS : EXIT_FAILURE;\n}\n"
    ),
    "JSON": (
        '{"moorings": [{"id": 17, "name": "north-3", "checked_at": "2026-03-14T06:12:09Z", '
        '"wind_kn": 21.5, "tide_cm": 184, "ok": true, "by": null}, {"id": 18, "name": "north-4", '
        '"checked_at": "2026-03-14T06:15:40Z", "wind_kn": 22.0, "tide_cm": 186, "ok": false, '
        '"by": "m.ortega"}, {"id": 21, "name": "quay-1", "checked_at": "2026-03-13T18:02:55Z", '
        '"wind_kn": 9.25, "tide_cm": 97, "ok": true, "by": "l.brandt"}], "page": 2, "next": null}'
    ),
    "log lines": (
        "2026-03-14 06:12:09,113 INFO  [worker-3] mooring=17 wind=21.5 tide=184 in 0.83 ms\n"
        "2026-03-14 06:12:09,240 WARN  [worker-1] mooring=18 rope wear 61 % (limit 60 %)\n"
        "2026-03-14 06:12:10,007 INFO  [worker-3] GET /moorings/18 200 1432 bytes 10.2.0.17:51324\n"
        "2026-03-14 06:12:11,951 ERROR [worker-2] sensor 0x7f3a timeout after 2000 ms, retry 3/5\n"
    ),
    "numbers": (
        "184 186 97 201 33 58 1204 998 77 430 12.5 19.75 8.25 0.125 3.1416 2.7183 1,204,998 "
        "62,500 7,812,500 2026-03-14 2025-12-31 +49 351 5550199 4f9a2c 00:14:22 98.6 % 41.2 % "
        "0.0031 17/32 5/8 1e-6 6.022e23 299792458 31536000 65535 4294967296\n"
    ),
    "Markdown": (
        "# Ropes\n\n| mooring | length | checked | wear |\n|---|---:|---|---:|\n"
        "| north-3 | 42 m | 6:12 | 18 % |\n| north-4 | 42 m | 6:15 | **61 %** |\n"
        "| quay-1 | 35 m | yesterday | 7 % |\n\n- [x] order new rope for `north-4`\n"
        "- [ ] ask [the chandler](https://example.org/ropes?id=17) about prices\n\n"
        "> Worn ropes are changed *before* the next storm, not after it.\n"
    ),
}
"""Text by the name of its language or kind."""

COUNTED = {
    "English": 97,
    "French": 109,
    "Russian": 116,
    "Arabic": 110,
    "Hindi": 173,
    "Thai": 134,
    "Chinese": 119,
    "Japanese": 143,
    "Korean": 103,
    "Python": 150,
    "JSON": 222,
    "numbers": 177,
}
"""Tokens that cl100k, o200k, Qwen, DeepSeek and Tekken make of it: geometric means."""
