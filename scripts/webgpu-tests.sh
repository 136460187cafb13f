#!/usr/bin/env bash
# Runs the WebGPU suites. Without VK_ICD_FILENAMES or VK_DRIVER_FILES they run on SwiftShader, the software adapter of
# Debian's chromium package, which is installed where it is missing (as root, on Debian or Ubuntu's like).
set -euo pipefail
cd "$(dirname "$0")/.."

chromium=/usr/lib/chromium
if [ -z "${VK_ICD_FILENAMES:-}${VK_DRIVER_FILES:-}" ]; then
  if ! [ -e "$chromium/vk_swiftshader_icd.json" ]; then
    echo "SwiftShader is missing: installing Debian's chromium"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium
  fi
  export VK_ICD_FILENAMES="$chromium/vk_swiftshader_icd.json"
  export LD_LIBRARY_PATH="$chromium${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" # has the Vulkan loader as well
fi
exec node_modules/.bin/node --test --test-reporter=spec --test-concurrency=1 --test-timeout=1200000 \
  "tests/webgpu/**/*.webgpu-test.ts"
