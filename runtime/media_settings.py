"""Settings of files."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, SecretStr

from runtime.setting import Count, Secret, setting


class Media(BaseModel):
    """Files: where they are, and their limits. Quotas are of one user, over all ingests; 0 turns a limit off."""

    url: str = setting(
        "",
        "Place of the files, the same for all ingests and media workers: `s3://bucket/prefix`, or `file:///folder` on a"
        " disk that they share; empty is the folder `media` in `DATA_DIR`. See *Files* in"
        " [deploying.md](deploying.md#files).",
    )
    s3_endpoint: str = setting(
        "", "URL of an S3 server that is not Amazon's. This and the next three are for `s3://`; empty, `AWS_…` holds."
    )
    s3_region: str = setting("", "Region of the bucket.")
    s3_access_key_id: str = setting("", "Key that may read, write, list and delete in the bucket.")
    s3_secret_access_key: Secret = setting(SecretStr(""), "Its secret.")
    daily_bytes: Count = setting(
        2**30, "Bytes of new files of one user a day, which begins at 00:00 UTC. A file counts as at least 16 KiB.", "B"
    )
    stored_bytes: Count = setting(10 * 2**30, "Bytes of all files of one user.", "B")
    uploads_per_user: Count = setting(5, "Uploads of one user that are under way.", "uploads")
    abandoned_after_s: Annotated[float, Field(ge=1)] = setting(
        3600.0, "Time without a new byte after which an upload is deleted.", "s"
    )
    unattached_after_s: Annotated[float, Field(ge=1)] = setting(
        86_400.0, "Time after its completion at which an upload that no message names is deleted.", "s"
    )
    min_free_bytes: Count = setting(
        2**30, "Free space that uploads leave on the disk of `DATA_DIR`; below it they get 507.", "B"
    )
    min_free_percent: Annotated[float, Field(ge=0, le=100)] = setting(
        5.0, "The same in percent of the disk; the smaller of the two holds.", "%"
    )
    signing_key: Secret = setting(
        SecretStr(""),
        "Key of the signatures in URLs of files, at least 32 bytes and the same for all ingests; without it no URLs are"
        " signed. `millrace up` makes one for its own processes.",
    )
    signed_url_ttl_s: Annotated[float, Field(ge=1, le=86_400)] = setting(
        300.0, "Time for which a signed URL of a file holds.", "s"
    )
    decoders: Annotated[int, Field(ge=1)] = setting(
        2, "Pictures that one media worker decodes at the same time; each may take 1 GiB of memory.", "processes"
    )
