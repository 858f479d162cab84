"""One connection: requests answered in order, bounds and deadlines kept, nothing raised into the loop."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, cast

from agent.errors import Busy, GatewayError
from agent.http.events import HEAD, EventSink
from agent.http.messages import Answer, Request, Response, Stream
from agent.http.parsing import RequestParser, Target, make_request
from agent.http.peers import peer_of
from agent.http.phase import SLOW, Phase
from agent.http.problems import SlowClientError, internal_error, problem_response
from agent.http.wire import CONTINUE, encode_head

if TYPE_CHECKING:
    from agent.http.server import HttpServer

LOG = logging.getLogger("agent.http")
Item = tuple[Request, Target] | GatewayError


class HttpConnection(asyncio.Protocol):
    """A client of `server`. Sync handlers are answered in the loop turn that completes their request."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._limits = server.limits
        self._queue: deque[Item] = deque()
        self._phase = Phase.VERIFYING
        self._busy = False
        self._broken = False
        self._stalled = False
        self._eof = False
        self._dropped_bytes = 0
        self._sink: EventSink | None = None
        self._stream: Stream | None = None
        self._task: asyncio.Task[None] | None = None
        self.deadline = float("inf")

    # -- the transport's calls ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._peer = peer_of(self._transport)
        self._parser = RequestParser(
            self._server.router,
            self._limits,
            self._server,
            make_request(self._peer, self._server.context),
            self._accept,
            self._expect,
        )
        refusal = self._server.enter(self)
        if refusal is not None:
            self._refuse(refusal)
        elif self._server.check is None:
            self._enter(Phase.IDLE, self._limits.idle_s)
        else:
            self._transport.pause_reading()
            self._enter(Phase.VERIFYING, self._limits.verify_s)
            self._task = self._server.spawn(self._verify(self._server.check(self._peer)))

    def data_received(self, data: bytes) -> None:
        if self._broken or self._phase in (Phase.STREAMING, Phase.CLOSING):
            self._dropped_bytes += len(data)
            if self._dropped_bytes > self._limits.linger_bytes:
                self._transport.abort()
            return
        try:
            self._parser.feed(data)
        except GatewayError as error:
            self._break(error)
        except Exception:
            LOG.exception("http.parser_failed socket=%s", self._server.name)
            self._break(internal_error())
        else:
            self._watch_request()

    def eof_received(self) -> bool:
        self._eof = True
        # A client may close its half after asking (`nc`); a stream's reader that does is gone.
        return self._busy and self._phase is not Phase.STREAMING

    def pause_writing(self) -> None:
        self._stalled = True
        self.deadline = self._server.now() + self._limits.write_s

    def resume_writing(self) -> None:
        self._stalled = False
        if self._sink is not None:
            self._enter(Phase.STREAMING, self._beat_s())
            self._sink.drained()
        elif self._phase is Phase.CLOSING:
            self._enter(Phase.CLOSING, self._limits.linger_s)
        elif self._busy:
            self._enter(Phase.HANDLING, float("inf"))
        else:
            self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._phase = Phase.CLOSING
        self._server.leave(self)
        self._parser.release()
        for item in self._queue:
            self._give_back(item)
        self._queue.clear()
        streaming = self._stream is not None
        self._end_stream()
        if self._task is not None and streaming:
            self._task.cancel()

    # -- deadlines ----------------------------------------------------------------------------------------------

    def _enter(self, phase: Phase, within_s: float) -> None:
        self._phase = phase
        self.deadline = self._server.now() + within_s

    def expire(self) -> None:
        """The deadline has passed. Called by the server's sweep."""
        if self._phase is Phase.STREAMING and not self._stalled:
            assert self._sink is not None
            self._enter(Phase.STREAMING, self._beat_s())
            self._sink.beat()
        elif self._phase in SLOW:
            self._server.stats.slow += 1
            what = SLOW[self._phase]
            self._break(SlowClientError("http.too_slow", f"{what} did not arrive in time", hint="send it at once"))
        elif self._phase is Phase.IDLE and not self._stalled:
            self._transport.close()
            self._enter(Phase.CLOSING, self._limits.linger_s)
        else:
            self._transport.abort()

    def _watch_request(self) -> None:
        if self._busy or self._phase is Phase.CLOSING:
            return
        if self._parser.in_head and self._phase is Phase.IDLE:
            self._enter(Phase.HEAD, self._limits.head_s)
        elif self._parser.in_body and self._phase is not Phase.BODY:
            self._enter(Phase.BODY, self._limits.body_s)

    def _beat_s(self) -> float:
        return (self._stream.beat_s if self._stream is not None else 0.0) or self._limits.beat_s

    # -- who is it ----------------------------------------------------------------------------------------------

    async def _verify(self, check: Awaitable[str]) -> None:
        try:
            self._peer.name = await check
        except GatewayError as error:
            self._server.stats.refused_peers += 1
            if self._server.may_log("peer_refused"):
                LOG.warning("http.peer_refused socket=%s pid=%d code=%s", self._server.name, self._peer.pid, error.code)
            if self._phase is Phase.VERIFYING:
                self._refuse(error)
        except Exception:
            LOG.exception("http.check_failed socket=%s", self._server.name)
            if self._phase is Phase.VERIFYING:
                self._refuse(internal_error())
        else:
            if self._phase is Phase.VERIFYING:
                self._enter(Phase.IDLE, self._limits.idle_s)
        finally:
            self._task = None
            self._transport.resume_reading()

    # -- requests, in order -------------------------------------------------------------------------------------

    def _expect(self) -> None:
        if not self._busy and not self._queue:
            self._transport.write(CONTINUE)

    def _accept(self, request: Request, target: Target) -> None:
        """A request is complete: serve it now, or after those before it."""
        # The client may have gone in the middle of its own pipeline: asyncio tells us only in the next turn.
        if self._broken or self._phase in (Phase.STREAMING, Phase.CLOSING) or self._transport.is_closing():
            self._server.bodies_bytes -= len(request.body)
            return
        self._queue.append((request, target))
        if self._busy or self._stalled:
            self._transport.pause_reading()
            if len(self._queue) > self._limits.pipeline:
                self._break(Busy("http.pipeline_full", "too many requests at once", hint="wait for answers"))
            return
        self._go_on()

    def _break(self, error: GatewayError) -> None:
        """Nothing after this can be read as HTTP; answer what came before, then refuse."""
        if self._broken:
            return
        self._broken = True
        self._parser.drop()
        self._queue.append(error)
        if not self._busy and not self._stalled:
            self._go_on()

    def _go_on(self) -> None:
        while self._queue and not self._busy and not self._stalled and self._phase is not Phase.CLOSING:
            item = self._queue.popleft()
            if isinstance(item, GatewayError):
                self._refuse(item)
            else:
                self._serve(*item)
        if not self._queue and not self._busy and not self._stalled and self._phase is not Phase.CLOSING:
            if self._eof:
                self._transport.close()
                return
            self._transport.resume_reading()
            self._enter(Phase.IDLE, self._limits.idle_s)
            self._watch_request()

    def _give_back(self, item: Item) -> None:
        if not isinstance(item, GatewayError):
            self._server.bodies_bytes -= len(item[0].body)

    def _serve(self, request: Request, target: Target) -> None:
        self._server.stats.requests += 1
        try:
            if isinstance(target, GatewayError):
                raise target
            route, request.params = target
            answer = route.handler(request)
        except GatewayError as error:
            answer = problem_response(error)
        except Exception as error:
            answer = self._unexpected(request, error)
        if isinstance(answer, Response):
            self._finish(request, answer)
        elif isinstance(answer, Stream):
            self._finish_stream(request, answer)
        else:
            self._wait_for(request, answer)

    def _unexpected(self, request: Request, error: Exception) -> Response:
        words = (self._server.name, request.method, request.path[:200])
        LOG.error("http.handler_failed socket=%s request=%s %s", *words, exc_info=error)
        return problem_response(internal_error())

    def _wait_for(self, request: Request, answer: Awaitable[Answer]) -> None:
        if self._server.in_flight >= self._limits.in_flight:
            if asyncio.iscoroutine(answer):
                answer.close()
            busy = Busy("http.in_flight_full", "too many requests are waiting for an answer", hint="ask again later")
            self._finish(request, problem_response(busy))
            return
        self._busy = True
        self._enter(Phase.HANDLING, float("inf"))
        self._server.in_flight += 1
        self._task = self._server.spawn(self._await_answer(request, answer))

    async def _await_answer(self, request: Request, awaitable: Awaitable[Answer]) -> None:
        answer: Answer
        try:
            answer = await awaitable
        except GatewayError as error:
            answer = problem_response(error)
        except Exception as error:
            answer = self._unexpected(request, error)
        finally:
            self._server.in_flight -= 1
            self._busy = False
            self._task = None
        if isinstance(answer, Response):
            self._finish(request, answer)
            self._go_on()
        else:
            self._finish_stream(request, answer)

    # -- answers ------------------------------------------------------------------------------------------------

    def _finish(self, request: Request, response: Response) -> None:
        self._server.bodies_bytes -= len(request.body)
        self._server.stats.count(response.status)
        if self._phase is Phase.CLOSING or self._transport.is_closing():
            return
        self._transport.write(encode_head(response, request.keep_alive) + response.body)
        if not request.keep_alive:
            self._close_after_answer()

    def _refuse(self, error: GatewayError) -> None:
        """Answer with a problem and close."""
        response = problem_response(error)
        self._server.stats.count(response.status)
        if not self._transport.is_closing():
            self._transport.write(encode_head(response, False) + response.body)
        self._close_after_answer()

    def _close_after_answer(self) -> None:
        """Close our half, throw away what still comes, so that a client in mid-sentence can read the answer."""
        self._broken = True
        self._enter(Phase.CLOSING, self._limits.linger_s)
        for item in self._queue:
            self._give_back(item)
        self._queue.clear()
        if self._eof or self._transport.is_closing():
            self._transport.close()
            return
        self._transport.write_eof()
        self._transport.resume_reading()

    def _finish_stream(self, request: Request, stream: Stream) -> None:
        self._server.bodies_bytes -= len(request.body)
        self._server.stats.count(200)
        if self._phase is Phase.CLOSING or self._eof:
            stream.on_close()
            self._transport.close()
            return
        self._stream, self._busy = stream, True
        self._transport.set_write_buffer_limits(high=0)
        self._transport.resume_reading()
        self._transport.write(HEAD)
        self._sink = EventSink(self._transport, self._limits.stream_bytes, self._cut)
        self._enter(Phase.STREAMING, self._beat_s())
        self._server.stats.streams += 1
        self._task = self._server.spawn(self._feed(stream, self._sink))

    async def _feed(self, stream: Stream, sink: EventSink) -> None:
        try:
            await stream.feed(sink)
        except GatewayError as error:
            sink.send("problem", problem_response(error).body)
        except Exception:
            LOG.exception("http.stream_failed socket=%s", self._server.name)
            sink.send("problem", problem_response(internal_error()).body)
        finally:
            self._end_stream()
            self._transport.close()
            self._phase = Phase.CLOSING
            self.deadline = self._server.now() + self._limits.linger_s

    def _cut(self) -> None:
        self._server.stats.cut += 1
        if self._server.may_log("reader_cut"):
            LOG.warning("http.reader_cut socket=%s pid=%d", self._server.name, self._peer.pid)
        self._transport.abort()

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        if self._sink is not None:
            self._sink.close()
        self._server.stats.streams -= 1
        try:
            stream.on_close()
        except Exception:
            LOG.exception("http.stream_close_failed socket=%s", self._server.name)

    def end_quietly(self) -> None:
        """The server is about to stop: end what is not in the middle of an answer."""
        if not self.end_stream() and self._phase is not Phase.HANDLING:
            self._transport.close()

    def end_stream(self) -> bool:
        """End the stream, if this connection is one."""
        if self._phase is not Phase.STREAMING or self._task is None:
            return False
        self._task.cancel()
        self._transport.close()
        return True

    def close(self) -> None:
        """The server stops: end what goes on."""
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()
