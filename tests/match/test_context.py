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
        "    syslog_test.go:193: failed to dial: x509: certificate has expired",
        "ERROR    uploader:uploader.py:61 ClientAuthenticationError: (AuthenticationFailed)",
        "  [+] Writes 'TF400813: The user is not authorized' to the error stream 18ms",
        "src/errors.py:14:    'AADSTS700024': 'Client assertion is not within its valid time range.'",
        '    "HTTP 401: Bad credentials", "unauthorized",',
        "HEAD is now at 3f1c9de Handle expired client secret keys",
        "* SSL certificate problem: certificate has expired",
        "if (message.includes('permission denied (publickey)')) {",
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
        "      > Username must not be null!",
        "> com.contoso.api.client.ResponseException: 401 Unauthorized",
        "  - Installing contoso/core (1.5.1): Failed to download: Could not authenticate against git.example",
        "✗ failed to clone repository: authentication required",
        "Failed logging in to the registry: unauthorized",
        "│ Error: building account: AADSTS7000222: expired",
        "* permission denied",
        "* provider.azurerm: AADSTS7000222: expired",
        "##[debug]Error 403 Invalid access token.",
        '  "message": "Bad credentials",',
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


def test_what_a_test_run_printed_is_no_message() -> None:
    reader = context.Reader()
    reader.see(10, "============================= test session starts ==============================")
    assert reader.is_quoted(11, "unauthorized: authentication required")
    assert not reader.is_quoted(11, "##[error]unauthorized: authentication required")
    assert reader.tests_ended(20, "========= 1 failed, 3 passed in 0.12s =========") == 10
    assert not reader.is_quoted(21, "unauthorized: authentication required")


def test_a_test_run_of_which_only_the_end_is_seen_reaches_back() -> None:
    reader = context.Reader()
    assert reader.tests_ended(1000, "[INFO] Tests run: 6, Failures: 0, Errors: 0") == 700
    assert reader.tests_ended(5, "ok  \tcontoso.example/pkg\t0.020s") == 1
    assert reader.tests_ended(6, "nothing of the kind") == 0
