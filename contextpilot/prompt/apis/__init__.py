"""Where the parts of a request stand, by API: what the library and the proxy share.

All that comes before the answer is one prompt. A shape tells its parts apart:

    tools | system, instructions | messages ... | last message
    ------+----------------------+--------------+-------------
    opening()                    | turns()                        where blocks are handed over
    unsearched() | searched()                                     where blocks are looked for

| part of the request                            | opening | turns | unsearched | searched |
|------------------------------------------------|---------|-------|------------|----------|
| `tools`                                        | yes     |       | yes        |          |
| Anthropic's `system`, Responses' `instructions`| yes     |       |            | yes      |
| `messages`, `input`, `prompt`                  |         | yes   |            | yes      |

`with_turns` and `with_searched` put messages back in their places; all other members of a body are
passed over, and stay. A text in the place of messages counts as one message of the user.
"""
