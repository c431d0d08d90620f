"""The words by which lists are told apart, as data: tags, cues, tools, fields.

Words of positions and numbers, by language, stand in `ordinals`.
"""

from __future__ import annotations

# -- elements --------------------------------------------------------------------------------------

DOCUMENT_TAGS = frozenset(
    (
        *("document", "doc", "passage", "source", "search_result", "search-result", "memory"),
        *("context", "evidence", "retrieved_document", "retrieved-document"),
        *("documento", "dokument", "fuente", "fonte", "quelle"),
    )
)
"""Elements that are documents by their name alone."""
LOOSE_TAGS = frozenset(
    (
        *("snippet", "excerpt", "chunk", "result", "item", "article", "reference", "fact", "node"),
        *("file", "entry", "text", "note", "contextItem", "context_item", "doc_chunk"),
    )
)
"""Elements that are documents only in a retrieval wrapper, after a cue or from a search tool."""
CUED_TAGS = frozenset(("data",))
"""Elements that are documents only right after a cue, in a retrieval wrapper or from a tool."""
FOUND_TAGS = frozenset(("paragraph",))
"""Elements of one text as often as documents: only in a retrieval wrapper or from a search tool."""
WATCHED_TAGS = frozenset(("record", "page", "section", "step", "turn", "message", "comment"))
"""Elements whose runs are reported as left, and never move."""
RETRIEVAL_WRAPPERS = frozenset(
    (
        *("search_results", "search-results", "searchresults", "retrieved_context", "retrieved"),
        *("retrieved_documents", "retrieved-documents", "retrieved_passages", "retrieval"),
        *("retrieved_chunks", "relevant_documents", "relevant_passages", "relevant_chunks"),
        *("relevant_snippets", "relevant_context", "relevant_memories", "retrieval_results"),
        *("search_result_list", "knowledge_base", "rag_context", "retrieved_memories"),
    )
)
"""Wrappers that say by their name that a search found what they hold."""
WRAPPERS = RETRIEVAL_WRAPPERS | frozenset(
    (
        *("documents", "docs", "passages", "snippets", "sources", "memories", "context"),
        *("contexts", "excerpts", "evidence", "references", "knowledge", "chunks", "facts"),
        *("results", "Cites", "Reference"),  # as FastGPT writes the last two
        *("documentos", "documenti", "dokumente", "fuentes", "fontes", "fonti", "quellen"),
    )
)
TITLED_WRAPPERS = frozenset(("articles",))
"""Wrappers of what a law is made of, too: documents in them have a title or an address each."""
TOLD_WRAPPERS = frozenset(("information",))
"""Wrappers of anything: the prompt has to tell that the results of a search stand in them."""
PLAIN_WRAPPERS = WRAPPERS - {"context", "contexts", "knowledge", "facts", "references", "results"}
"""Wrappers in which a plain `1. ...` list is one of documents, too."""
OUTPUT_TAGS = frozenset(
    (
        *("function_results", "function_result", "tool_response", "tool_result", "tool_output"),
        *("tool_name", "stdout", "stderr", "output", "exit_code", "returncode", "terminal"),
        *("command", "cmd", "bash", "observation", "command_output"),
    )
)
"""Elements around or within what tools and commands returned."""
COUNTING_ATTRIBUTES = ("index", "idx", "n", "no", "number")
"""Attributes that count places; every other belongs to its element."""
SEQUENCE_ATTRIBUTES = frozenset(
    (
        *("page", "pages", "step", "turn", "line", "lines", "timestamp", "time", "start", "end"),
        *("chapter", "section", "order", "seq", "sequence", "position", "rank", "role", "speaker"),
        *("part", "paragraph", "clause", "offset", "status"),
    )
)
SEQUENCE_CHILDREN = SEQUENCE_ATTRIBUTES | OUTPUT_TAGS

# -- cues ------------------------------------------------------------------------------------------

CUE_NOUNS = (
    r"(?:documents?|docs|passages?|snippets?|excerpts?|sources?|memor(?:y|ies)|"
    r"search[ -]results?|retrieval[ -]results?|query[ -]results|results of (?:the|a) search|"
    r"contents are (?:the )?(?:search|retrieval)[ -]results|(?:pieces|parts|"
    r"bits) of (?:(?:a|the|long|retrieved|relevant) ){0,3}(?:context|information|evidence|"
    r"documents?)|"
    r"contexts?|evidence|references|articles(?! of)|notes(?= found| retrieved)|"
    r"(?:knowledge[ -]base|kb|help[ -]cent(?:er|re)) (?:articles|entries)|"
    r"knowledge(?:[ -]base)?|"
    r"(?<=above )information|information(?= (?:(?:that )?(?:you|we|i) (?:have )?)?"
    r"(?:retrieved|found|gathered|collected))|"
    r"facts (?:about|on) (?:the )?user|"
    r"(?:context|background|reference|retrieved|relevant|gathered|collected|known)[ -]"
    r"(?:information|knowledge|material)|"
    r"(?:retrieved|relevant|search|supporting)[ -](?:chunks?|articles?|facts|texts?|paragraphs?|"
    r"data|content|web ?pages|results?|entries|files|code))"
)
CUE_ADJECTIVES = (
    r"(?:retrieved|relevant|related|supporting|matching|similar|provided|following|given|found|"
    r"numbered|several|some|top|best|user|past|long-term|below|above|extracted|external|web|"
    r"additional|gathered|collected|reference|vector|semantic|hybrid|most|\d{1,3}|of|the|these|those|this|only|and|pieces)"
)
CUE_FOREIGN = (
    r"(?:dokumente|quellen|textstellen|passagen|ausz(?:ü|ue)ge|suchergebnisse|kontext|"
    r"documents?\s+(?:trouv[ée]s|suivants|fournis|r[ée]cup[ée]r[ée]s|ci-dessous)|contexte|extraits|"
    r"sources suivantes|r[ée]sultats de (?:la )?recherche|contexto|documentos|fuentes|fragmentos|"
    r"resultados de (?:la )?b[úu]squeda|resultados da (?:pesquisa|busca)|trechos|fontes|"
    r"documenti|contesto|fonti|brani|risultati della ricerca|documenten|bronnen|zoekresultaten|"
    r"dokumenty|źródła|źródeł|kontekst|fragmenty|belgeler|kaynaklar|bağlam|dokument(?:en)?|källor|"
    r"kilder|документ\w*|источник\w*|контекст\w*|фрагмент\w*|результат\w* поиска|"
    r"المستندات|الوثائق|المصادر|السياق|نتائج البحث|दस्तावेज़\w*|संदर्भ|स्रोत\w*|tài liệu|"
    r"ngữ cảnh|nguồn)"
)
CUE_HAN = (
    r"(?:检索到的|检索结果|搜索结果|参考资料|参考文档|参考文献资料|已知信息|以下文档|上下文|背景知识|知识库|"
    r"下列文档|相关文档|相关资料|找到的文[档章]|檢索結果|搜尋結果|參考資料|以下の文書|検索結果|参考情報|"
    r"参考文書|関連文書|次の文書|コンテキスト|見つかった文書|以下のドキュメント|검색 결과|"
    r"참고 자료|다음 문서|관련 문서|컨텍스트|검색된 문서)"
)
SEQUENCE_NOUNS = (
    r"(?:novel|manuscript|scan(?:s|ned)?|sheets?|so far|transcripts?|transcription|"
    r"conversations?|dialogues?|chat|messages?|turns?|utterances?|"
    r"speakers?|subtitles?|captions?|steps?|instructions?|procedure|recipe|directions|stages|"
    r"phases|"
    r"log|logs|timeline|history|events?|diary|journal|minutes|agenda|story|chapters?|scenes?|"
    r"verses?|"
    r"lyrics|pages|sections?|clauses?|articles? of|paragraphs? of|slides?|episodes?|e-?mails?|"
    r"mails?|"
    r"threads?|comments?|posts?|replies|tickets?|issues?|to-?dos?|tasks?|checklist|commits?|"
    r"changelog|"
    r"changes|elements?|interactive|options?|choices?|candidates?|"
    r"segments?|sentences?|lines?|rows?|images?|photos?|frames?|footnotes?|notes|bibliography|"
    r"related work|in (?:chronological|the right|the same) order|chronological|sorted|ordered by|"
    r"newest|oldest|in order|code files?|rules|requirements|principles|criteria|guidelines|"
    r"protokoll|gespr[äa]ch|schritte|kapitel|seiten|artikel der|abschnitte|"
    r"[ée]tapes|conversaci[óo]n|pasos|p[áa]ginas|passos|fasi|passi|шаги|этапы|стенограмма|"
    r"步骤|对话|聊天记录|逐字稿|手順|会話|字幕|단계|대화)"
)
"""A list announced as one of these is a sequence, or its places are used."""

# -- questions -------------------------------------------------------------------------------------

QUESTION_MARKS = ("?", "？", "؟")
QUESTION_LABELS = (
    r"question|query|request|frage|anfrage|pregunta|consulta|domanda|pergunta|"
    r"vraag|вопрос|запрос|питання|pytanie|soru|سؤال|السؤال|问题|問題|提问|質問|질문|fråga|"
    r"spørgsmål|kysymys|kérdés|otázka|întrebare|câu hỏi|pertanyaan"
)
ANSWER_LABELS = (
    r"answer|antwort|réponse|respuesta|risposta|resposta|antwoord|ответ|odpowiedź|cevap|"
    r"svar|الجواب|الإجابة|回答|答案|答え|답변|답"
)

# -- tools -----------------------------------------------------------------------------------------

SEARCH_WORDS = frozenset(
    (
        *("search", "searches", "searching", "retrieve", "retrieval", "retriever", "retrieved"),
        *("rag", "recall", "knowledge", "kb", "semantic", "vector", "vectorstore", "similarity"),
        *("tavily", "exa", "serper", "brave", "bing", "google", "duckduckgo", "ddg", "searxng"),
        *("websearch", "docsearch", "meilisearch", "elasticsearch", "opensearch", "typesense"),
        *("qdrant", "chroma", "pinecone", "weaviate", "milvus", "pgvector", "lancedb", "faiss"),
    )
)
READ_WORDS = frozenset(
    (
        *("read", "cat", "view", "open", "load", "show", "head", "tail", "less", "parse"),
        *("readfile", "files", "notebook", "pdf", "download", "editor", "edit", "replace"),
    )
)
RUN_WORDS = frozenset(
    (
        *("bash", "shell", "sh", "exec", "command", "cmd", "terminal", "powershell", "grep", "rg"),
        *("ripgrep", "glob", "ls", "git", "sql", "psql", "sqlite", "console", "ipython", "code"),
        *("codebase", "repl"),
    )
)
WEAK_WORDS = frozenset(
    (
        *("file", "resource", "run", "execute", "python", "list", "process", "script"),
        *("database", "db"),
    )
)
"""Words of tools that read or run, unless a word of searching stands beside them."""
NO_DOCUMENT_WORDS = frozenset(
    (
        *(
            "transcript",
            "transcripts",
            "subtitles",
            "captions",
            "pages",
            "page",
            "steps",
            "history",
        ),
        *(
            "thread",
            "threads",
            "comment",
            "comments",
            "issue",
            "issues",
            "ticket",
            "tickets",
            "log",
        ),
        *("logs", "timeline", "calendar", "event", "events", "mail", "mails", "email", "emails"),
        *("message", "messages", "chat", "chats", "conversation", "conversations", "commit"),
        *("commits", "order", "orders", "customer", "customers", "invoice", "invoices", "product"),
        *("products", "flight", "flights", "hotel", "hotels", "todo", "todos", "task", "tasks"),
        *("users", "contacts", "people", "tables", "jobs", "repositories"),
        *("repos", "pulls", "pr", "prs", "tweets", "posts", "browser", "screenshot", "elements"),
        *("meeting", "meetings", "notes", "recipe", "lyrics", "chapters", "sections", "directions"),
        *("jira", "linear", "asana", "trello", "slack", "gmail", "outlook", "discord", "teams"),
        *(
            "scroll",
            "playlist",
            "songs",
            "zendesk",
            "hubspot",
            "salesforce",
            "stripe",
            "shopify",
            "ocr",
            "speech",
            "classify",
        ),
    )
)
SEARCH_ARGUMENTS = frozenset(
    ("query", "queries", "q", "search_query", "search_term", "question", "keywords")
)
PLACE_ARGUMENTS = frozenset(
    (
        *("path", "paths", "file", "file_path", "filename", "filepath", "command", "cmd", "sql"),
        *(
            "replace",
            "replacement",
            "script",
            "code",
            "uri",
            "url",
            "urls",
            "absolute_path",
            "target_file",
            "pattern",
            "glob",
        ),
    )
)

# -- rows ------------------------------------------------------------------------------------------

SCORE_FIELDS = frozenset(
    (
        *("score", "similarity", "similarity_score", "relevance", "relevance_score", "distance"),
        *("rerank_score", "_score", "@search.score", "cosine", "cosine_similarity", "rrf_score"),
        *("search_score", "confidence_score", "match_score", "vector_score", "bm25", "bm25_score"),
        *(
            "_distance",
            "certainty",
            "_rankingScore",
            "reranker_score",
            "relevanceScore",
            "similarityScore",
            "_additional",
        ),
    )
)
PLAIN_SCORES = frozenset(("score", "distance", "confidence_score", "match_score"))
"""Scores that may also be points or votes: they count from 0 to 1, or from a search tool."""
QUERY_FIELDS = frozenset(("query", "search_query", "q", "question", "search_term"))
"""Members beside scored rows that say what was searched for."""
ORIGIN_FIELDS = frozenset(
    (
        *("url", "link", "source", "uri", "href", "title", "filename", "file_name", "file_id"),
        *("document_id", "doc_id", "source_id", "chunk_id", "metadata", "node_id", "id", "domain"),
        *("doc_name", "document_name", "name", "_id", "uuid", "file", "path"),
        *("node", "segment", "payload", "properties", "fields", "_source", "location"),
    )
)
PAGE_FIELDS = frozenset(("page", "page_number", "page_no", "page_index", "pageNumber"))
"""Pages that are not in order were chosen by a search; those in order are read."""
SEQUENCE_FIELDS = frozenset(
    (
        *("role", "step", "steps", "line", "lines", "line_number", "lineno", "line_no", "turn"),
        *("sequence", "seq", "order", "ordinal", "index", "idx", "rank", "ranking", "position"),
        *("pos", "place", "number", "no", "num", "offset", "start", "end", "duration"),
        *("start_time", "end_time", "start_line", "end_line", "page", "page_number", "page_no"),
        *("page_index", "pages", "chapter", "section", "paragraph", "clause", "article_number"),
        *("verse", "slide", "status", "state", "priority", "due", "due_date", "done", "completed"),
        *("checked", "cell_type", "depth", "level", "parent", "parent_id", "reply_to"),
        *("in_reply_to", "thread_id", "comment_id", "sha", "commit", "exit_code", "element", "ref"),
        *("xpath", "selector", "speaker", "episode", "part", "version", "severity", "i", "@type"),
        *("startIndex", "endIndex", "pageNumber", "lineNumber", "stepNumber", "sender", "from"),
        *("line_num", "start_index", "end_index", "html_url", "ordering", "sort", "sort_key"),
    )
)
SEQUENCE_HOLDERS = frozenset(
    (
        *("playlist", "queue", "tracks", "songs", "steps", "chapters", "timeline", "history"),
        *("messages", "transcript", "turns", "utterances", "subtitles", "captions", "thread"),
        *("comments", "replies", "slides", "scenes", "verses", "segments", "agenda", "todos"),
        *(
            "tasks",
            "moves",
            "commits",
            "stages",
            "lessons",
            "episodes",
            "instructions",
            "leaderboard",
        ),
    )
)
"""Members whose array is a sequence by its name, whatever its rows tell."""
TIME_FIELDS = frozenset(
    (
        *("ts", "time", "timestamp", "date", "datetime", "created", "created_at", "updated_at"),
        *("sent_at", "createdAt", "updatedAt", "published_at", "user", "username", "author"),
        *("publishedAt", "published_date", "modified"),
    )
)
"""Fields of comments, mails and logs: rows that have one move only with a relevance score."""
RECORD_FIELDS = (
    *("url", "link", "source", "score", "relevance", "similarity", "distance", "page_url"),
    *("relevance score", "similarity score", "uri", "href"),
)
"""Lines of a search hit written as text, one of which each must have; a title alone is not one."""
FIELD_LABELS = frozenset(
    (
        *("title", "url", "link", "source", "content", "text", "snippet", "file", "filename"),
        *("document", "passage", "context", "score", "relevance", "id", "name", "summary"),
        *("description", "abstract", "author", "metadata", "path", "chunk", "page_content"),
        *("question", "query", "note", "memory", "fact", "excerpt", "type", "domain", "uri"),
        *("category", "topic", "subject", "keywords", "section", "citation", "reference", "doc"),
        *("value", "collection", "chunk id", "doc id", "document id", "source id", "node id"),
        *("file id", "file name", "page title", "page_label", "file_path", "file_name", "page"),
    )
)
"""`Name: ...` at the head of a block that is a field and no speaker."""
