"""What each engine writes when it cannot go on, from the root of trouble to its symptoms."""

from engines.diagnosis import Rule

LLAMACPP = (
    Rule(
        r"error: invalid argument: (?P<flag>\S+)",
        "This build of llama-server has no argument {flag}.",
        "Remove it from the options or extra arguments, or use an image that knows it.",
    ),
    Rule(
        r"error while handling argument \"(?P<flag>[^\"]+)\": (?P<why>.*)",
        "llama-server does not accept the value given to {flag} ({why}).",
        "Correct that option or extra argument.",
    ),
    Rule(
        r"failed to open GGUF file '(?P<file>[^']+)' \(No such file|failed to open (?P<other>\S+): No such file",
        "The model's file {file}{other} is not there.",
        "Check the model's path, that the file was downloaded, and that the models folder is the right one.",
    ),
    Rule(
        r"invalid magic characters|invalid magic number|failed to read magic|bad GGUF version",
        "The model's file is not a GGUF file.",
        "Choose a .gguf file. A file of a few hundred bytes is often a Git LFS pointer: download the real one.",
    ),
    Rule(
        r"data is not within the file bounds|gguf_init\w*: failed to read|tensors expected but"
        r"|failed to read tensor data|has invalid data|unexpectedly reached end of file",
        "The model's file is cut off or damaged.",
        "Download it again and compare its size or checksum with the publisher's.",
    ),
    Rule(
        r"GGUFv1 is no longer supported|only supports up to version",
        "This build of llama.cpp does not read this version of the GGUF format.",
        "Use a newer image, or convert the model again.",
    ),
    Rule(
        r"illegal split file idx|invalid split (?:file|count)|failed to load GGUF split from (?P<part>\S+)",
        "A part of this multi-part model is missing, or the first part was not chosen.",
        "Choose the part that ends in -00001-of-..., with all other parts beside it.",
    ),
    Rule(
        r"unknown model architecture: '(?P<architecture>[^']+)'",
        "This build of llama.cpp does not know the architecture {architecture}.",
        "Use a newer image, or another engine.",
    ),
    Rule(
        r"unknown (?:pre-)?tokenizer(?: type)?: '(?P<tokenizer>[^']+)'|error loading model vocabulary",
        "llama.cpp cannot use this model's tokenizer.",
        "Use a newer image, or a newer conversion of the model.",
    ),
    Rule(
        r"tensor '(?P<tensor>[^']+)' not found|missing tensor '(?P<missing>[^']+)'|key not found in model",
        "The model's file lacks something llama.cpp needs: {tensor}{missing}.",
        "Use a newer conversion of the model, or an image that matches it. A file of adapters is not a model.",
    ),
    Rule(
        r"quantized V cache (?:requires|was requested, but this requires) flash",
        "A quantized V cache needs flash attention, which is off or not possible for this model.",
        "Turn flash attention on, or choose f16 for the V cache.",
    ),
    Rule(
        r"(?P<side>[KV]) cache type (?P<type>\S+) with block size \d+ does not divide (?P<size>\S+)",
        "The {side} cache type {type} does not suit this model's heads ({size}).",
        "Choose f16 or bf16 for the {side} cache.",
    ),
    Rule(
        r"chat template parsing error|failed to initialize chat template",
        "llama.cpp cannot read the model's chat template.",
        "Name a built-in chat template (for example chatml), or turn Jinja templates off.",
    ),
    Rule(
        r"failed to allocate buffer for kv cache",
        "The KV cache does not fit.",
        "Lower context or users, or choose a smaller cache type such as q8_0.",
        permanent=False,
    ),
    Rule(
        r"failed to allocate (?:compute|\w+ buffer)|unable to allocate \S+ buffer|failed to reserve initial output",
        "The model does not fit into memory.",
        "Put fewer layers on the GPU, lower context, users or batch, or use more or larger GPUs.",
        permanent=False,
    ),
    Rule(
        r"invalid value for main_gpu|device \S+ does not support split|SPLIT_MODE_TENSOR (?:needs|not|requires)",
        "The model cannot be split over the GPUs as asked.",
        "Leave split mode and main GPU empty.",
    ),
)

VLLM = (
    Rule(
        r"error: unrecognized arguments: (?P<flags>.*)",
        "This version of vLLM has no argument {flags}.",
        "Remove it from the options or extra arguments, or use an image that knows it.",
    ),
    Rule(
        r"error: (?:argument (?P<flag>\S+?): )(?P<why>.*)",
        "vLLM does not accept the value given to {flag}: {why}",
        "Correct that option or extra argument.",
    ),
    Rule(
        r"Free memory on device.*\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less than desired",
        "Only {free} of {total} GiB are free on the GPU: less than the share vLLM was told to take.",
        "Lower the share of GPU memory, or stop what else uses this GPU.",
        permanent=False,
    ),
    Rule(
        r"Available memory on node \d+ \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\)",
        "Only {free} of the host's {total} GiB are free: less than the cache vLLM was told to keep.",
        "Lower the cache on the CPU, or stop what else uses this host's memory.",
        permanent=False,
    ),
    Rule(
        r"No available memory for the cache blocks",
        "The weights leave no room for a KV cache.",
        "Raise the share of GPU memory, use more GPUs, or a smaller or quantized model.",
    ),
    Rule(
        r"serve at least one request with the model's max seq len \((?P<length>\d+)\)"
        r"|max seq len \((?P<older>\d+)\) is larger than the maximum number of tokens that can be stored",
        "The KV cache cannot hold one request of {length}{older} tokens.",
        "Lower the context, choose an fp8 cache, raise the share of GPU memory, or use more GPUs.",
    ),
    Rule(
        r"User-specified max_model_len \((?P<length>\d+)\) is greater than the derived",
        "The context of {length} tokens is longer than the model was made for.",
        "Lower the context to what the model's config says.",
    ),
    Rule(
        r"Error in memory profiling|memory usage increased during profiling",
        "Another process took or gave GPU memory while vLLM measured it.",
        "Start again; models that share a GPU must start one after another.",
        permanent=False,
    ),
    Rule(
        r"gated repo|GatedRepoError|401 Client Error|403 Client Error",
        "The model is gated: its publisher wants an account that accepted the terms.",
        "Accept the terms on the model's page, give Cortex a token, and download it again.",
    ),
    Rule(
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|outgoing traffic has been disabled|couldn't connect to 'https?://",
        "The engine looked for files on the network, which it may not reach.",
        "Download the whole model, with its tokenizer and config, into the models folder.",
    ),
    Rule(
        r"Model architectures? (?P<architecture>.+?) (?:are|is) not supported",
        "This version of vLLM does not know the architecture {architecture}.",
        "Use a newer image, or another engine.",
    ),
    Rule(
        r"consider setting `trust_remote_code=True`|requires you to execute the configuration file"
        r"|contains custom code which must be executed|pass the (?:argument|option) `trust_remote_code=True`",
        "The model brings code of its own, which may not run.",
        "Turn on 'Trust the model's code' if you trust its publisher, or choose another model.",
    ),
    Rule(
        r"Invalid repository ID or local directory specified|does not appear to have a file named (?P<file>\S+)"
        r"|Can't load (?:the configuration|tokenizer) (?:of|for)|Repo id must be in the form",
        "The model's folder is missing, or lacks its config or tokenizer.",
        "Check the model's path and that the download is complete. vLLM needs a folder of safetensors, not a GGUF.",
    ),
    Rule(
        r"Cannot find any model weights with",
        "The model's folder has no weights that vLLM reads.",
        "Check that the download is complete: *.safetensors must lie in the folder.",
    ),
    Rule(
        r"SafetensorError|safetensors_rust|HeaderTooLarge|MetadataIncompleteBuffer|InvalidHeaderDeserialization",
        "A weights file is cut off or damaged.",
        "Download it again and compare its size or checksum with the publisher's.",
    ),
    Rule(
        r"attention heads \((?P<heads>\d+)\) must be divisible by tensor parallel size \((?P<size>\d+)\)",
        "The model's {heads} attention heads cannot be shared evenly by {size} GPUs.",
        "Choose a number of GPUs that divides {heads}, or use pipeline parallel.",
    ),
    Rule(
        r"World size \((?P<size>\d+)\) is larger than the number of available GPUs \((?P<gpus>\d+)\)",
        "vLLM was to use {size} GPUs, but its container has {gpus}.",
        "Lower tensor or pipeline parallel, or give the model more GPUs.",
    ),
    Rule(
        r"invalid (?P<kind>tool call|reasoning) parser: (?P<parser>\S+)",
        "This version of vLLM has no {kind} parser named {parser}.",
        "Choose one that its documentation lists.",
    ),
    Rule(
        r"supplied chat template.*(?:appears path-like|doesn't exist)|default chat template is no longer allowed",
        "The chat template is missing: the model brings none, or the one named is not in the image.",
        "Name a chat template that the image ships, or leave it empty for a model with its own.",
    ),
)
