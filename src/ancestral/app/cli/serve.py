"""The command `ancestral serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

ACCESS = Group("Access", sort_key=1)
LIMITS = Group("Limits", help="Limits of a request, and of what may wait.", sort_key=2)
MACHINE = Group("Machine", sort_key=3)


def serve(
    *runs: Path,
    host: Annotated[str, Parameter(group=ACCESS)] = "127.0.0.1",
    port: Annotated[int, Parameter(group=ACCESS)] = 8000,
    token: Annotated[str | None, Parameter(group=ACCESS, env_var="ANCESTRAL_TOKEN", show_env_var=True)] = None,
    max_samples: Annotated[int, Parameter(group=LIMITS)] = 64,
    max_steps: Annotated[int, Parameter(group=LIMITS)] = 250,
    max_pixels: Annotated[int, Parameter(group=LIMITS)] = 1 << 22,
    max_body: Annotated[float, Parameter(group=LIMITS)] = 8.0,
    timeout: Annotated[float, Parameter(group=LIMITS)] = 120.0,
    patience: Annotated[float, Parameter(group=LIMITS)] = 20.0,
    queue: Annotated[int, Parameter(group=LIMITS)] = 512,
    connections: Annotated[int, Parameter(group=LIMITS)] = 256,
    batch: Annotated[int, Parameter(group=MACHINE)] = 32,
    device: Annotated[str, Parameter(group=MACHINE)] = "auto",
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16"], Parameter(group=MACHINE)] = "auto",
    quiet: Annotated[bool, Parameter(alias="-q")] = False,
) -> int:
    """Let other programs draw samples of your models over HTTP.

    The page /docs of the service describes its API; clients of OpenAI's image API work too. Requests that wait at the same time
    are drawn together, which changes no result. Ctrl-C and SIGTERM end the service after the accepted requests are answered.

    Example: `ancestral serve runs/digits`, then open http://127.0.0.1:8000/docs

    Parameters
    ----------
    runs
        Run folders, folders of saved models, or models of the hub, hub:user/name. Requests name a model by the last part of its
        path.
    host
        Address at which the service listens. With any other than the default, which only this machine reaches, --token is
        needed.
    port
        Port at which the service listens. 0 chooses a free one.
    token
        Secret that every request must send as `Authorization: Bearer TOKEN`. Other users of the machine can see it on the
        command line, so the environment variable is safer.
    max_samples
        Largest number of samples of one request.
    max_steps
        Largest number of solver steps of one request.
    max_pixels
        Largest number of pixels (of data that are no pictures, numbers) in all samples of one request.
    max_body
        Largest size of one request, in MB.
    timeout
        Longest time from a request to its answer, in seconds.
    patience
        Time in which a request must arrive and its answer must be taken, in seconds.
    queue
        Largest number of samples that wait. Further requests get the status 429.
    connections
        Largest number of connections that are open at a time. Further ones get the status 503.
    batch
        Largest number of samples that are drawn together.
    device
        Device of all models: auto (the GPU if there is one), cpu, cuda or mps.
    precision
        Arithmetic of the networks: auto, fp32, bf16 or fp16.
    quiet
        Print no line for each request.
    """
    from ancestral.errors import AncestralError, UsageError

    if not runs:
        raise UsageError("name the runs to serve, e.g. ancestral serve runs/digits")
    try:
        from ancestral.app.web.server import listen
        from ancestral.app.web.service import Limits, Service, create_service
        from ancestral.app.web.service import serve as run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("fastapi", "starlette", "uvicorn", "prometheus_client"):
            raise
        raise AncestralError(f"{error.name} is not installed: pip install 'ancestral[serve]'") from None
    from ancestral.app.progress import Reporter
    from ancestral.app.web.guard import is_local

    local = is_local(host)
    if not local and token is None:
        raise UsageError(
            f"--host {host} can be reached from other machines: set --token, or the variable ANCESTRAL_TOKEN, to a long secret"
        )
    limits = Limits(
        samples=max_samples,
        steps=max_steps,
        pixels=max_pixels,
        body=int(max_body * 1e6),
        seconds=timeout,
        patience=patience,
        queue=queue,
        batch=batch,
        connections=connections,
    )
    reporter = Reporter()
    with listen(port, host) as where:
        number = where.getsockname()[1]
        service = Service(runs, device=device, precision=precision, limits=limits)
        app = create_service(service, token=token, local=local and token is None, port=number)
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{number}", flush=True)
        reporter.say(f"{', '.join(service.models)}; the API is described at /docs; Ctrl-C finishes what was accepted and ends")
        run(app, where, service, log=not quiet)
    return 0
