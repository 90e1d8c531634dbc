"""The daemon writes to no file system: it runs where all of it is read-only, as in the container."""

from support.admin import admin
from support.buried import letters
from support.certificates import Authority
from support.daemon import config_text, process
from support.feeds import watching
from support.receiver import answers
from support.waiting import until

READ_ONLY = """
import errno, os, resource, sys

resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # what the kernel sees written to a file fails, whoever writes it
for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
    os.environ[name] = "/proc"
os.chdir("/proc")  # where nobody can create anything, not even root
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.mkfifo"}

def refuse(event, arguments):
    written = event == "open" and arguments[2] & WRITES and not str(arguments[0]).startswith("/dev/")
    if (written and isinstance(arguments[0], str | bytes)) or event in CHANGES:
        sys.stderr.write(f"written to: {event} {arguments}\\n")
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(arguments[0]))

sys.addaudithook(refuse)
sys.dont_write_bytecode = True  # the image's bytecode was made when it was built
"""


async def test_everything_works_on_a_read_only_file_system(nats, receiver, tmp_path) -> None:
    receiver.answer = answers(204, 422)
    authority = Authority(tmp_path)
    actor = {"name": "print", "event": "counts", "url": receiver.url, "retry": {"delays": [0.05]}}
    text = config_text(
        nats.url,
        events=[{"name": "counts"}],
        actors=[actor],
        grpc={"tls": authority.pair("server").options()},
        monitoring={"listen": "127.0.0.1:0"},
    )
    async with process(tmp_path / "d", text, prelude=READ_ONLY) as daemon:
        sidecar = daemon.sidecar
        assert sidecar is not None
        async with watching(sidecar, "counts") as feed:
            await sidecar.emit("counts", "1")
            await feed.message()
        await sidecar.emit("counts", "2")
        [letter] = await until(lambda: letters(sidecar))
        assert (await admin(sidecar, "POST", f"dead-letters/{letter['sequence']}/replay"))[0] == 200
        await receiver.wait_for(3)
        assert (await sidecar.try_emit("counts", "3", delay="1h"))[0] == 202
        assert (await admin(sidecar, "POST", "reload"))[0] == 200
        assert await daemon.end() == 0
    assert not daemon.said("written to")
    assert [line for line in daemon.lines if line.get("level") == "error"] == []
