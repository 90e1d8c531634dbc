"""Why `grpc.allowed_hosts` is refused: what the library tells of a call."""

import grpc

NAME = "name-that-was-called.example"


class Answers(grpc.GenericRpcHandler):
    """Keeps all that is told of a call before its handler is chosen, and within it."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.names: set[str] = set()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        self.told += [handler_call_details.method, handler_call_details.invocation_metadata]
        self.names |= set(dir(handler_call_details))

        async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            self.told += [context.invocation_metadata(), context.auth_context(), context.peer()]
            self.names |= set(dir(context))
            return request

        return grpc.unary_unary_rpc_method_handler(answer)


async def test_the_library_does_not_tell_which_name_was_called() -> None:
    """Where this fails, `grpc.allowed_hosts` can be carried out."""
    answers = Answers()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((answers,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.default_authority", NAME)]
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            assert await channel.unary_unary("/a.B/C")(b"1", metadata=(("x-known", "what-is-told"),)) == b"1"
    finally:
        await server.stop(None)
    assert "what-is-told" in repr(answers.told)
    assert NAME not in repr(answers.told)
    assert not [name for name in answers.names if "host" in name or "authority" in name]
