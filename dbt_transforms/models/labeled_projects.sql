{% call(changed) merged(['created_on', 'tag'], ['projects', 'tags']) %}
select
    projects.id,
    projects.created_on,
    projects.title,
    projects.description,
    tags.tag
from {{ source('raw', 'projects') }} as projects
inner join {{ source('raw', 'tags') }} as tags
    on projects.id = tags.id
where
    tags.tag is not null
    {{ changed }}
{% endcall %}
