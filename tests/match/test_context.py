import pytest

from triage.match import context


@pytest.mark.parametrize(
    "line",
    [
        "##[command]docker login -u robot",
        "+ grep -q 'unauthorized: authentication required' build.log",
        'if grep -q "AADSTS7000222" out.txt; then',
        'az login || echo "AADSTS7000222: expired"',
        "  # AADSTS7000222 means that the secret expired",
        "PASSED tests/test_login.py::test_token_expired",
        "tests/test_login.py::test_unauthorized PASSED   [ 40%]",
        "  ✓ answers 401 Unauthorized when the token is expired",
        "  401 | raise Unauthorized('token expired')",
        "+  AADSTS7000222: The provided client secret keys are expired",
        "| AADSTS7000222 | the secret has expired |",
        "  Failed Shop.Tests.Login.TokenExpired [12 ms]",
        "E   AssertionError: assert 401 == 200",
    ],
)
def test_source_traces_and_test_reports_are_no_message(line: str) -> None:
    assert context.Reader().is_quoted(1, line)


@pytest.mark.parametrize(
    "line",
    [
        "##[error]AADSTS7000222: The provided client secret keys are expired.",
        "#12 ERROR: failed to authorize: 401 Unauthorized",
        "ERROR: AADSTS7000222: The provided client secret keys are expired.",
        "> Could not GET 'https://packages.example/x'. Received status code 401 from server: Unauthorized",
        "Failed logging in to the registry: unauthorized",
        "│ Error: building account: AADSTS7000222: expired",
    ],
)
def test_a_tools_own_error_is_a_message(line: str) -> None:
    assert not context.Reader().is_quoted(1, line)


def test_a_scripts_source_ends_where_its_output_begins() -> None:
    reader = context.Reader()
    lines = [
        "Generating script.",
        "Script contents:",
        "docker login || exit 1 # unauthorized: authentication required",
        "========================== Starting Command Output ===========================",
        "unauthorized: authentication required",
    ]
    quoted = []
    for number, line in enumerate(lines, 1):
        reader.see(number, line)
        quoted.append(reader.is_quoted(number, line))
    assert quoted == [True, True, True, False, False]
