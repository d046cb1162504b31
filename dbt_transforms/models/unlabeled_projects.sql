{{
    config(
        post_hook="""
            {% if is_incremental() %}
            delete from {{ this }} as built
            where
                not exists (
                    select 1
                    from {{ source('raw', 'projects') }} as projects
                    where projects.id = built.id
                )
                or exists (
                    select 1
                    from {{ source('raw', 'tags') }} as tags
                    where
                        tags.id = built.id
                        and tags.tag is not null
                )
            {% endif %}
        """
    )
}}

select
    projects.id,
    projects.created_on,
    projects.title,
    projects.description
from {{ source('raw', 'projects') }} as projects
where
    not exists (
        select 1
        from {{ source('raw', 'tags') }} as tags
        where
            tags.id = projects.id
            and tags.tag is not null
    )

{% if is_incremental() %}
-- merge only the rows that are new or changed
except distinct
select id, created_on, title, description from {{ this }}
{% endif %}
