"""The index API: planning, the engines' events, and what is known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response
from pydantic_core import to_json

from contextpilot.dedup.conversation import HINT_TEMPLATE
from contextpilot.http.address import is_loopback
from contextpilot.jobs import decode_job
from contextpilot.prompt.messages import check_history
from contextpilot.prompt.turn import opening
from contextpilot.server.errors import ApiError, input_errors
from contextpilot.server.index_api import schemas
from contextpilot.server.index_api.body_routes import BodyRoute, has_left, in_order
from contextpilot.server.index_api.rewriting import Rewriting, as_reply
from contextpilot.server.offload import are_many, offload
from contextpilot.server.service import Service, Written
from contextpilot.sync.events import answer_message
from contextpilot.sync.sources.kv_events.address import KvAddress, parse_addresses
from contextpilot.sync.sources.kv_events.packages import MissingExtraError, load_packages

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.ErrorReply} for status in (400, 401, 403, 404, 413, 415, 422)
}
router = APIRouter(responses=ERRORS, route_class=BodyRoute)


def reply(content: Any) -> Response:
    """Return JSON, not checked against a model again."""
    return Response(to_json(content), media_type="application/json")


def reply_with(name: str, items: Iterable[Any], content: dict[str, Any]) -> Response:
    """Return JSON with a list before the rest; no call into C takes longer than one item does."""
    written = b",".join([to_json(item) for item in items])
    body = b'{"%b":[%b],%b' % (name.encode(), written, to_json(content)[1:])
    return Response(body, media_type="application/json")


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


@router.post("/reorder", response_model=schemas.Reordered, tags=["planning"])
async def reorder(body: schemas.ReorderBody, request: Request) -> Response:
    """Put the blocks of one or many contexts in the order that suits the cache."""
    service, batch = _service(request), body.batch()
    if body.stateless:
        found = await service.reorder_stateless(batch, body.options())
    else:
        found = await service.reorder(batch, body.namespace, body.options())
    _, planned, engine = found
    content = {
        "order": [one.position for one in planned],
        "ranks": [one.plan.order for one in planned],
        "request_ids": [one.request_id for one in planned],
        "engine": engine,
    }
    ordered = ([batch[one.position][rank] for rank in one.plan.order] for one in planned)
    return await offload(are_many(batch), reply_with, "contexts", ordered, content)


@router.post("/optimize", response_model=schemas.Prompt, tags=["planning"])
async def optimize(body: schemas.OptimizeBody, request: Request) -> Response:
    """Plan one request and write its chat messages."""
    with input_errors():
        before = opening(body.system_instruction, check_history(body.history))
    (written,) = await _service(request).write(
        [body.contexts],
        [body.query],
        before,
        body.namespace,
        body.options(),
        body.conversation_id,
        request.state.is_large,
    )
    return reply(_prompt(written))


@router.post("/optimize_batch", response_model=schemas.Prompts, tags=["planning"])
async def optimize_batch(body: schemas.OptimizeBatchBody, request: Request) -> Response:
    """Plan requests together; return their messages in execution order."""
    if len(body.queries) != len(body.all_contexts):
        message = f"must be as many as all_contexts: {len(body.queries)}, {len(body.all_contexts)}"
        raise ApiError(422, message, "queries")
    before = opening(body.system_instruction, [])
    most, told = request.app.state.settings.max_body_bytes, len(body.system_instruction or "")
    if told * len(body.queries) > most:  # each of the prompts begins with it
        message = f"is too long for {len(body.queries)} prompts of at most max_body_bytes ({most})"
        raise ApiError(413, f"{message} together: send several requests", "system_instruction")
    written = await _service(request).write(
        body.all_contexts, body.queries, before, body.namespace, body.options()
    )
    content = {"order": [one.planned.position for one in written]}
    many = are_many(body.all_contexts)
    return await offload(many, reply_with, "prompts", map(_prompt, written), content)


@router.post("/deduplicate", response_model=schemas.Deduplicated, tags=["planning"])
async def deduplicate(body: schemas.DeduplicateBody, request: Request) -> Response:
    """Compare a context with the blocks that its conversation already has."""
    template = HINT_TEMPLATE if body.hint_template is None else body.hint_template
    is_large = request.state.is_large
    found = await _service(request).deduplicate(
        body.contexts, body.conversation_id, template, body.namespace, is_large
    )
    return await offload(is_large, reply, found._asdict())


@router.post("/rewrite", response_model=schemas.Rewritten, tags=["planning"])
async def rewrite(body: schemas.RewriteBody, request: Request) -> Response:
    """Plan the documents in a whole conversation, and replace repeats."""
    rewriting: Rewriting = request.app.state.rewriting
    is_large = request.state.is_large
    return await offload(is_large, reply, as_reply(await rewriting.rewrite(body, is_large)))


@router.post("/plan", tags=["planning"])
async def plan(body: schemas.PlanBody, request: Request) -> Response:
    """Plan a job of the library in another process, which sends keys and weights but no texts."""
    many = are_many(body.contexts)
    with input_errors():
        job = await offload(many, lambda: decode_job(body.model_dump()))
    if not job.contexts:
        return reply({"plans": []})
    content = await _service(request).plan_once(job, body.id)
    if await has_left(request):
        await _service(request).take_back(content, body.id)
    return await offload(many, reply, content)


@router.post("/sync", tags=["engines"])
@in_order
async def sync(body: schemas.SyncBody, request: Request) -> Response:
    """Take a message from an engine; "resync" asks it for a snapshot."""
    with input_errors():
        status = await _service(request).lane.take(dict(body))
    return reply(answer_message(status))


@router.post("/engines", tags=["engines"], status_code=201)
async def add_engine(body: schemas.EngineBody, request: Request) -> Response:
    """Add an engine: requests go there from now on."""
    _check_may_change_engines(request)
    pool = _service(request).pool
    with input_errors():
        engine = await pool.add(body.url, body.name, _kv_address(body.kv_events))
    answer = reply({"engine": engine.name, "url": engine.shown_url})
    answer.status_code = 201
    return answer


def _kv_address(text: str | None) -> KvAddress | None:
    """Return where an engine that joins publishes KV events.

    Raises:
        ApiError: the packages for it are not installed.
        ValueError: it is no such place, or names what is not for callers to name.
    """
    if text is None:
        return None
    found = parse_addresses([text])
    if len(found) != 1:
        raise ValueError(f"kv_events must be one address, not {len(found)}")
    if found[0].tokenizer:
        raise ValueError("kv_events: tokenizer= can only be given at startup: leave it out")
    try:
        load_packages()
    except MissingExtraError as error:
        raise ApiError(400, str(error), "kv_events") from None
    return found[0]


@router.delete("/engines/{name:path}", tags=["engines"])
async def remove_engine(name: str, request: Request) -> Response:
    """Remove an engine: running requests finish there, waiting ones go elsewhere."""
    _check_may_change_engines(request)
    try:
        await _service(request).pool.remove(name)
    except KeyError:
        raise ApiError(404, "no engine has this name: GET /health lists them", "name") from None
    return reply({"status": "ok"})


def _check_may_change_engines(request: Request) -> None:
    """Refuse where anybody on the network could lead requests, and their keys, elsewhere."""
    settings = request.app.state.settings
    if not settings.index_token and not is_loopback(settings.host):
        fix = "start the server with --index-token, or on a loopback address"
        raise ApiError(403, f"engines cannot be changed without a token: {fix}")


@router.post("/evict", tags=["engines"])
async def evict(body: schemas.EvictBody, request: Request) -> Response:
    """Forget requests whose prompts are gone; return how many were known."""
    receiver = _service(request).pool.receiver
    known = await offload(are_many([body.request_ids]), receiver.evict, body.request_ids)
    return reply({"status": "ok", "known": known})


@router.post("/reset", tags=["engines"])
async def reset(body: schemas.ResetBody, request: Request) -> Response:
    """Forget one namespace, or everything."""
    _service(request).reset(body.namespace)
    return reply({"status": "ok"})


@router.get("/requests", tags=["state"])
async def requests(request: Request, limit: int = Query(100, ge=1, le=10_000)) -> Response:
    """List the latest requests, newest first: tokens, timing, why they hit or missed."""
    records = _service(request).records
    latest = records.latest(limit)
    told, content = (record.as_dict() for record in latest), {"num_known": len(records)}
    return await offload(are_many([latest]), reply_with, "requests", told, content)


@router.get("/explain/{request_id}", tags=["state"])
async def explain(request_id: str, request: Request) -> Response:
    """Say why a request hit or missed."""
    record = _service(request).records.get(request_id)
    if record is None:
        raise ApiError(404, "this request is not known (any more)", "request_id")
    return reply(record.as_dict())


@router.get("/stats", tags=["state"])
async def stats(request: Request, namespace: str | None = None) -> Response:
    """Return sums over all namespaces, or those of one: requests, tokens, index sizes."""
    service = _service(request)
    return reply(await offload(service.has_many_namespaces(), service.stats, namespace))


@router.get("/metrics", tags=["state"], response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Return the counters in Prometheus' text format."""
    service, counters = _service(request), request.app.state.metrics
    stats = await offload(service.has_many_namespaces(), service.stats, None)
    held_bytes = request.app.state.bodies.held_bytes
    text = counters.render(service.pool.health(), stats, held_bytes)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/health", tags=["state"])
async def health(request: Request) -> Response:
    """Return 200 if requests can be served, otherwise 503; and the state of each engine."""
    content = _service(request).health()
    answer = reply(content)
    answer.status_code = 200 if content["status"] == "ok" else 503
    return answer


def _prompt(written: Written) -> dict[str, Any]:
    messages = written.messages
    return {
        "messages": list(messages),
        "request_id": messages.request_id,
        "ranks": messages.order,
        "hinted": messages.hinted,
    }
