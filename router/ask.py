"""Find what a person asked inside a template: retrieval prompts, pasted chats and agent frames name the ask.

Everything else in such a prompt is material. It stays as bounded context, because "what does clause 4 mean?" needs it.
"""

from __future__ import annotations

import re
from typing import Final

SHORTEST_ASK: Final = 8
"""A marker with less text behind it is taken for part of the material."""
SCANNED_CHARS: Final = 12_000

_WHO: Final = (
    r"(?:(?:the|new|current|latest)\s+)?(?:user|customer|human|client)(?:'s)?"
    r"(?:\s+(?:question|query|message|request|input|prompt|says|asks))?"
    r"|(?:(?:the|my|new|current|final|follow-?up)\s+)?(?:question|query|request|user_query|ask)"
    r"|frage|nutzer|benutzer|pregunta|usuario|pergunta|usuário|question de l'utilisateur|utilisateur|domanda|utente"
    r"|vraag|gebruiker|pytanie|użytkownik|вопрос|пользователь|soru|kullanıcı|pertanyaan|pengguna|câu hỏi|người dùng"
    r"|用户|用戶|问题|問題|提问|質問|ユーザー|질문|사용자|سؤال|السؤال|المستخدم|प्रश्न|सवाल|उपयोगकर्ता"
)
# Bullets and emphasis may stand before the word and behind it: "**Question:** ...", "### Query: ...", "<user>: ...".
_MARKER: Final = re.compile(rf"^[^\w\n]{{0,6}}(?:{_WHO})[^\w\n:：]{{0,3}}[:：][*_ \t]*", re.IGNORECASE | re.MULTILINE)
_HEADING: Final = re.compile(rf"^[ \t]*#{{1,4}}[ \t]+(?:{_WHO})[ \t]*\n", re.IGNORECASE | re.MULTILINE)
_REPLY: Final = re.compile(
    r"^[^\w\n]{0,6}(?:answer|final answer|assistant|response|reply|thought|action|ai|bot|antwort|respuesta|réponse"
    r"|resposta|risposta|antwoord|odpowiedź|ответ|cevap|jawaban|trả lời|回答|答案|助手|답변|إجابة|उत्तर)\s*[:：]",
    re.IGNORECASE | re.MULTILINE,
)


def split_ask(text: str) -> tuple[str, str]:
    """Return the ask and the material around it; the whole text and "" when nothing marks an ask.

    The last marker counts: in a pasted chat that is the latest thing the person said.
    """
    if len(text) > SCANNED_CHARS:
        return text, ""
    markers = [*_MARKER.finditer(text), *_HEADING.finditer(text)]
    for marker in sorted(markers, key=lambda found: found.end(), reverse=True):
        ask = _until_reply(text[marker.end() :])
        if len(ask) >= SHORTEST_ASK:
            return ask, text[: marker.start()].strip()
    return text, ""


def _until_reply(text: str) -> str:
    reply = _REPLY.search(text)
    return (text[: reply.start()] if reply else text).strip()
