# Makes this machine an agent of @url@: downloads the coder program, checks it, and has it run at sign-in.
#
#   $env:CODER_AGENT_TOKEN = 'TOKEN'; .\enrol.ps1 [-Directory DIR] [-NoService]
#
# Without the variable the token is asked for. Needs Windows PowerShell 5.1 or newer.
param([string] $Directory = (Join-Path $env:LOCALAPPDATA 'moorline-agent'), [switch] $NoService)

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$server = '@url@'
$sums = @{
@sums@
}
$certificates = @'
@ca@
'@

function Stop-With([string] $message) {
    [Console]::Error.WriteLine("error: $message")
    exit 1
}

$native = if ($env:PROCESSOR_ARCHITEW6432) { $env:PROCESSOR_ARCHITEW6432 } else { $env:PROCESSOR_ARCHITECTURE }
$architecture = switch ($native) { 'AMD64' { 'amd64' } 'ARM64' { 'arm64' } default { $native } }
$program = "coder-windows-$architecture.exe"
$expected = $sums[$program]
if (-not $expected) { Stop-With "$server has no program for windows-$architecture; it has: @offered@." }

$token = $env:CODER_AGENT_TOKEN
if (-not $token) {
    $secret = Read-Host -Prompt 'Agent token' -AsSecureString
    $token = (New-Object System.Management.Automation.PSCredential('token', $secret)).GetNetworkCredential().Password
}
$token = $token.Trim()
if ($token -notmatch '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$') {
    Stop-With 'the token is not one: it has the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx.'
}

New-Item -ItemType Directory -Force -Path $Directory, "$Directory\logs", "$Directory\scripts" | Out-Null

# Windows programs take certificates from the system's store only. The agent, written in Go, does, too.
if ($certificates.Trim()) {
    $isAdmin = ([Security.Principal.WindowsPrincipal] [Security.Principal.WindowsIdentity]::GetCurrent()).IsInRole(
        [Security.Principal.WindowsBuiltInRole]::Administrator)
    $place = if ($isAdmin) { 'LocalMachine' } else { 'CurrentUser' }
    $store = New-Object Security.Cryptography.X509Certificates.X509Store('Root', $place)
    $store.Open('ReadWrite')
    foreach ($match in [regex]::Matches($certificates, '(?s)-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----')) {
        $bytes = [Convert]::FromBase64String(($match.Groups[1].Value -replace '\s', ''))
        $store.Add((New-Object Security.Cryptography.X509Certificates.X509Certificate2(, $bytes)))
    }
    $store.Close()
    Write-Host "The server's certificate authority is trusted now ($place\Root)."
}

# VS Code expects that its shell's parent is called sshd.exe (as coder v2.24.0 provisionersdk does).
$target = Join-Path $Directory 'sshd.exe'
$new = Join-Path $Directory 'coder.new.exe'
[Net.ServicePointManager]::SecurityProtocol = [Net.ServicePointManager]::SecurityProtocol -bor [Net.SecurityProtocolType]::Tls12
Write-Host "Downloading $server/bin/$program"
try {
    Invoke-WebRequest -UseBasicParsing -Uri "$server/bin/$program" -OutFile $new
} catch {
    Write-Host "Invoke-WebRequest could not download it: $($_.Exception.Message)"
    if (-not (Get-Command curl.exe -ErrorAction SilentlyContinue)) { Stop-With "$server/bin/$program could not be downloaded." }
    & curl.exe -fsSL -o $new "$server/bin/$program"
    if ($LASTEXITCODE -ne 0) { Stop-With "$server/bin/$program could not be downloaded with curl.exe either." }
}
$found = (Get-FileHash -Algorithm SHA256 -Path $new).Hash.ToLowerInvariant()
if ($found -ne $expected) {
    $stream = [IO.File]::OpenRead($new)
    $bytes = New-Object byte[] 256
    $count = $stream.Read($bytes, 0, $bytes.Length)
    $stream.Close()
    $start = [Text.Encoding]::ASCII.GetString($bytes, 0, $count) -replace '[^\x09\x0a\x20-\x7e]', '.'
    Remove-Item $new
    [Console]::Error.WriteLine("error: what came is not $program.`n  SHA-256 expected  $expected`n  SHA-256 received  $found`nIt begins with:`n$start")
    if ($start.TrimStart().StartsWith('<')) {
        Stop-With "that is a web page. Is there a proxy or a sign-in page before ${server}? Let /bin through it."
    }
    Stop-With 'if the program on the server was replaced just now, get this script again.'
}
$version = (& $new --version | Select-Object -First 1)
if ($version -notmatch 'Coder') { Stop-With "the program does not run here: $version" }

Stop-ScheduledTask -TaskName 'moorline-agent' -ErrorAction SilentlyContinue
Get-Process -Name sshd -ErrorAction SilentlyContinue | Where-Object { $_.Path -eq $target } | Stop-Process -Force
Move-Item -Force $new $target

$run = Join-Path $Directory 'run.ps1'
@"
`$env:CODER_AGENT_AUTH = 'token'
`$env:CODER_AGENT_URL = '$server/'
`$env:CODER_AGENT_TOKEN = '$token'
`$env:CODER_AGENT_LOG_DIR = '$Directory\logs'
`$env:CODER_AGENT_SCRIPT_DATA_DIR = '$Directory\scripts'
& '$target' agent
exit `$LASTEXITCODE
"@ | Set-Content -Encoding UTF8 -Path $run
# The token is for this user's eyes.
& icacls.exe $run /inheritance:r /grant:r "$([Security.Principal.WindowsIdentity]::GetCurrent().Name):F" 'SYSTEM:F' | Out-Null

if ($NoService) {
    & powershell.exe -NoProfile -ExecutionPolicy Bypass -File $run
    exit $LASTEXITCODE
}

$log = Join-Path $Directory 'logs\coder-agent.log'
$seen = if (Test-Path $log) { @(Get-Content $log).Count } else { 0 }
$action = New-ScheduledTaskAction -Execute 'powershell.exe' -Argument "-NoProfile -WindowStyle Hidden -ExecutionPolicy Bypass -File `"$run`""
$trigger = New-ScheduledTaskTrigger -AtLogOn -User ([Security.Principal.WindowsIdentity]::GetCurrent().Name)
$settings = New-ScheduledTaskSettingsSet -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries -ExecutionTimeLimit ([TimeSpan]::Zero) `
    -RestartCount 999 -RestartInterval (New-TimeSpan -Minutes 1)
Register-ScheduledTask -Force -TaskName 'moorline-agent' -Action $action -Trigger $trigger -Settings $settings | Out-Null
Start-ScheduledTask -TaskName 'moorline-agent'
Write-Host 'Installed the scheduled task moorline-agent.'
for ($turn = 0; $turn -lt 30; $turn++) {
    if ((Test-Path $log) -and (Get-Content $log | Select-Object -Skip $seen | Select-String -SimpleMatch 'fetched manifest')) {
        Write-Host 'Done: the server sees this machine.'
        exit 0
    }
    Start-Sleep -Seconds 1
}
Stop-With "the agent runs, but the server has not taken it within 30 s. Its log is $log."
